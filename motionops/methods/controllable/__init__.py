"""Controllable Augmentations (Qian et al., ECCV 2022 workshop)."""

from motionops.methods.controllable.flags import PRESETS, ControllableConfig
from motionops.methods.controllable.method import Controllable
from motionops.methods.controllable.views import make_dataset

__all__ = ["PRESETS", "Controllable", "ControllableConfig", "make_dataset"]
