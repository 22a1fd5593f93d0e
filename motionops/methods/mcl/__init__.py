"""MCL, motion-focused contrastive learning (Li et al., ICCV 2021)."""

from motionops.methods.mcl.flags import PRESETS, MCLConfig
from motionops.methods.mcl.method import MCL
from motionops.methods.mcl.views import make_dataset

__all__ = ["MCL", "PRESETS", "MCLConfig", "make_dataset"]
