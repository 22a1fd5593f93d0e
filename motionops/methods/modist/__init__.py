"""MoDist, motion distillation (Xiao, Tighe, Modolo, 2021)."""

from motionops.methods.modist.flags import PRESETS, MoDistConfig
from motionops.methods.modist.method import MoDist
from motionops.methods.modist.views import make_dataset

__all__ = ["PRESETS", "MoDist", "MoDistConfig", "make_dataset"]
