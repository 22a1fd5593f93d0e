"""motionops: learning what moves in a video without labels, as operators for PyTorch.

The operators and what goes with them are here, one line each. Reading of videos, models, evaluation and methods are in
packages, ``motionops.video`` and so on, each loaded when it is first asked for: what they need (PyAV, torchvision) this
does not.
"""

import importlib as _importlib
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING

from motionops.codec.rasterize_motion_vectors import rasterize_motion_vectors
from motionops.contrast.feature_queue import FeatureQueue
from motionops.contrast.momentum_encoder import MomentumEncoder, cosine_momentum
from motionops.contrast.pairwise_infonce import pairwise_infonce
from motionops.contrast.pixel_contrast import pixel_contrast
from motionops.contrast.queue_infonce import InfoNCE, queue_infonce
from motionops.contrast.rank_weight import rank_weight
from motionops.contrast.region_contrast import region_contrast
from motionops.flow.clip_flow import clip_flow
from motionops.flow.flow_edges import flow_edges
from motionops.flow.frame_difference import frame_difference
from motionops.flow.motion_map import motion_map
from motionops.flow.tvl1_flow import tvl1_flow
from motionops.geometry.soft_correspondence import soft_correspondence
from motionops.layers.ghost_batch_norm import GhostBatchNorm, ghost_batch_norm
from motionops.library import has_cuda
from motionops.views.appearance import Appearance
from motionops.views.augment_clips import augment_clips
from motionops.views.colour import IMAGENET_MEAN, IMAGENET_STD, KINETICS_MEAN, KINETICS_STD
from motionops.views.crop_map import crop_map
from motionops.views.extents import sample_extents
from motionops.views.local_views import local_extents, local_starts
from motionops.views.motion_extents import motion_extents, motion_starts

if _TYPE_CHECKING:  # what __getattr__ gives, for checkers and editors
    from motionops import codec as codec
    from motionops import contrast as contrast
    from motionops import evaluation as evaluation
    from motionops import flow as flow
    from motionops import geometry as geometry
    from motionops import layers as layers
    from motionops import methods as methods
    from motionops import models as models
    from motionops import motion as motion
    from motionops import ranks as ranks
    from motionops import video as video
    from motionops import views as views

__version__ = "0.1.0"

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "KINETICS_MEAN",
    "KINETICS_STD",
    "Appearance",
    "FeatureQueue",
    "GhostBatchNorm",
    "InfoNCE",
    "MomentumEncoder",
    "augment_clips",
    "clip_flow",
    "cosine_momentum",
    "crop_map",
    "flow_edges",
    "frame_difference",
    "ghost_batch_norm",
    "has_cuda",
    "local_extents",
    "local_starts",
    "motion_extents",
    "motion_map",
    "motion_starts",
    "pairwise_infonce",
    "pixel_contrast",
    "queue_infonce",
    "rank_weight",
    "rasterize_motion_vectors",
    "region_contrast",
    "sample_extents",
    "soft_correspondence",
    "tvl1_flow",
]

# What is public has its name in the `__all__` of one of these or of this file.
_PACKAGES = (
    "codec",
    "contrast",
    "evaluation",
    "flow",
    "geometry",
    "layers",
    "methods",
    "models",
    "motion",
    "ranks",
    "video",
    "views",
)


def __getattr__(name: str) -> _ModuleType:
    if name not in _PACKAGES:
        raise AttributeError(f"module 'motionops' has no attribute {name!r}")
    return _importlib.import_module(f"motionops.{name}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_PACKAGES, "__version__"})
