"""Context-Motion Decoupling (Huang et al., CVPR 2021)."""

from motionops.methods.context_motion.conclusion import conclude, find_videos
from motionops.methods.context_motion.flags import PRESETS, ContextMotionConfig
from motionops.methods.context_motion.method import ContextMotion
from motionops.methods.context_motion.views import make_dataset

__all__ = ["PRESETS", "ContextMotion", "ContextMotionConfig", "conclude", "find_videos", "make_dataset"]
