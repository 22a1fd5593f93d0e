"""Views of videos: where they are cut out, and how they look."""

from motionops.views.appearance import Appearance
from motionops.views.augment_clips import augment_clips, augment_clips_reference
from motionops.views.extents import sample_extents

__all__ = ["Appearance", "augment_clips", "augment_clips_reference", "sample_extents"]
