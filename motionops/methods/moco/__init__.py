"""MoCo, momentum contrast (He et al., CVPR 2020), of RGB clips; docs/adding_a_method.md follows it."""

from motionops.methods.moco.flags import PRESETS, MoCoConfig
from motionops.methods.moco.method import MoCo

__all__ = ["PRESETS", "MoCo", "MoCoConfig"]
