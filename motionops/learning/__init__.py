"""What several methods share: momentum encoder, feature queue, decoder, foreground masks.

The parts of a training run (`training`, `module`, `checkpoint`, `config`, ...) need lightning and are imported by name.
"""

from motionops.learning.feature_queue import FeatureQueue
from motionops.learning.foreground import foreground_mask
from motionops.learning.momentum import MomentumEncoder
from motionops.learning.motion_decoder import MotionDecoder

__all__ = ["FeatureQueue", "MomentumEncoder", "MotionDecoder", "foreground_mask"]
