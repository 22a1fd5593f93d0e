"""Views of videos: where they are cut out, and how they look."""

from motionops.views.appearance import Appearance
from motionops.views.augment_clips import augment_clips, augment_clips_reference
from motionops.views.extents import sample_extents
from motionops.views.intensity_levels import IntensityLevels
from motionops.views.local_views import local_extents, local_starts
from motionops.views.motion_extents import motion_extents, motion_starts

__all__ = [
    "Appearance",
    "IntensityLevels",
    "augment_clips",
    "augment_clips_reference",
    "local_extents",
    "local_starts",
    "motion_extents",
    "motion_starts",
    "sample_extents",
]
