"""motionops: learning what moves in a video without labels, as operators for PyTorch.

The operators are re-exported here, one line each; methods, video reading, models and evaluation are in the subpackages.
"""

from motionops.contrast.pixel_contrast import pixel_contrast
from motionops.contrast.queue_infonce import InfoNCE, queue_infonce
from motionops.flow.frame_difference import frame_difference
from motionops.learning.feature_queue import FeatureQueue
from motionops.library import has_cuda

__version__ = "0.1.0"

__all__ = ["FeatureQueue", "InfoNCE", "frame_difference", "has_cuda", "pixel_contrast", "queue_infonce"]
