"""Contrastive losses over one streaming softmax: logits are computed in tiles, folded and dropped, never stored."""

from motionops.contrast.feature_queue import FeatureQueue
from motionops.contrast.momentum_encoder import MomentumEncoder, cosine_momentum
from motionops.contrast.pairwise_infonce import pairwise_infonce, pairwise_infonce_reference
from motionops.contrast.pixel_contrast import pixel_contrast, pixel_contrast_reference
from motionops.contrast.queue_infonce import InfoNCE, queue_infonce, queue_infonce_reference
from motionops.contrast.rank_weight import rank_weight
from motionops.contrast.region_contrast import region_contrast, region_contrast_reference

__all__ = [
    "FeatureQueue",
    "InfoNCE",
    "MomentumEncoder",
    "cosine_momentum",
    "pairwise_infonce",
    "pairwise_infonce_reference",
    "pixel_contrast",
    "pixel_contrast_reference",
    "queue_infonce",
    "queue_infonce_reference",
    "rank_weight",
    "region_contrast",
    "region_contrast_reference",
]
