"""What several methods share: momentum encoder, feature queue, decoder, foreground masks, motion alignment.

The parts of a training run (`training`, `module`, `checkpoint`, `config`, ...) need lightning and are imported by name.
"""

from motionops.learning.feature_queue import FeatureQueue
from motionops.learning.foreground import foreground_mask
from motionops.learning.momentum import MomentumEncoder
from motionops.learning.motion_alignment import MotionAlignment, motion_alignment
from motionops.learning.motion_decoder import MotionDecoder

__all__ = ["FeatureQueue", "MomentumEncoder", "MotionAlignment", "MotionDecoder", "foreground_mask", "motion_alignment"]
