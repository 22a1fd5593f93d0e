"""motionops: learning what moves in a video without labels, as operators for PyTorch.

The operators are re-exported here, one line each; methods, video reading, models and evaluation are in the subpackages.
"""

from motionops.codec.rasterize_motion_vectors import rasterize_motion_vectors
from motionops.contrast.feature_queue import FeatureQueue
from motionops.contrast.pairwise_infonce import pairwise_infonce
from motionops.contrast.pixel_contrast import pixel_contrast
from motionops.contrast.queue_infonce import InfoNCE, queue_infonce
from motionops.contrast.region_contrast import region_contrast
from motionops.flow.flow_edges import flow_edges
from motionops.flow.frame_difference import frame_difference
from motionops.flow.motion_map import motion_map
from motionops.flow.tvl1_flow import tvl1_flow
from motionops.geometry.soft_correspondence import soft_correspondence
from motionops.layers.ghost_batch_norm import GhostBatchNorm, ghost_batch_norm
from motionops.library import has_cuda
from motionops.views.appearance import Appearance
from motionops.views.augment_clips import augment_clips
from motionops.views.extents import sample_extents
from motionops.views.motion_extents import motion_extents

__version__ = "0.1.0"

__all__ = [
    "Appearance",
    "FeatureQueue",
    "GhostBatchNorm",
    "InfoNCE",
    "augment_clips",
    "flow_edges",
    "frame_difference",
    "ghost_batch_norm",
    "has_cuda",
    "motion_extents",
    "motion_map",
    "pairwise_infonce",
    "pixel_contrast",
    "queue_infonce",
    "rasterize_motion_vectors",
    "region_contrast",
    "sample_extents",
    "soft_correspondence",
    "tvl1_flow",
]
