"""What several methods share: momentum encoder, feature queue, decoder, masks, motion alignment, mutual information.

The parts of a training run (`training`, `module`, `checkpoint`, `config`, ...) need lightning and are imported by name.
"""

from motionops.learning.feature_prediction import ConvGRUPredictor, TransformerPredictor
from motionops.learning.feature_queue import FeatureQueue
from motionops.learning.foreground import foreground_mask
from motionops.learning.momentum import MomentumEncoder
from motionops.learning.motion_alignment import MotionAlignment, motion_alignment
from motionops.learning.motion_decoder import MotionDecoder
from motionops.learning.mutual_information import GradientReversal, MutualInformation

__all__ = [
    "ConvGRUPredictor",
    "FeatureQueue",
    "GradientReversal",
    "MomentumEncoder",
    "MotionAlignment",
    "MotionDecoder",
    "MutualInformation",
    "TransformerPredictor",
    "foreground_mask",
    "motion_alignment",
]
