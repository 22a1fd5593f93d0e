"""Views of videos: where they are cut out, and how they look."""

from motionops.views.appearance import Appearance
from motionops.views.augment_clips import augment_clips, augment_clips_reference
from motionops.views.colour import IMAGENET_MEAN, IMAGENET_STD, KINETICS_MEAN, KINETICS_STD
from motionops.views.crop_map import crop_map
from motionops.views.even_clips import centre_extent, clip_starts, hold_last, square_extents
from motionops.views.extents import sample_extents
from motionops.views.intensity_levels import IntensityLevels
from motionops.views.local_views import local_extents, local_starts
from motionops.views.motion_extents import motion_extents, motion_starts
from motionops.views.random_windows import random_windows

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "KINETICS_MEAN",
    "KINETICS_STD",
    "Appearance",
    "IntensityLevels",
    "augment_clips",
    "augment_clips_reference",
    "centre_extent",
    "clip_starts",
    "crop_map",
    "hold_last",
    "local_extents",
    "local_starts",
    "motion_extents",
    "motion_starts",
    "random_windows",
    "sample_extents",
    "square_extents",
]
