"""Backbones and heads. Needs torchvision (extra `train`)."""

import importlib.util

if importlib.util.find_spec("torchvision") is None:
    raise ImportError("motionops.models needs torchvision: pip install 'motionops[train]'")

from motionops.models.backbones import (
    BACKBONES,
    BackboneName,
    build_backbone,
    load_backbone,
    load_weights,
    read_metadata,
    save_backbone,
)
from motionops.models.heads import ProjectionHead
from motionops.models.image_weights import load_image_weights
from motionops.models.networks.c3d import C3D
from motionops.models.networks.i3d import I2D, I3D
from motionops.models.networks.r2plus1d_50 import R2D50, R2Plus1D50
from motionops.models.networks.r3d_pool import R3D18Pool, R3D34Pool
from motionops.models.networks.resnet3d import R2Plus1D18, R3DSmall
from motionops.models.networks.s3d import S3D
from motionops.models.networks.shallow_resnets import R2D10, R3D10, R3D26, R2DSmall, R2Plus1D26, R3D10Eighth
from motionops.models.networks.slow_only import R3D18, R2D50Eighth, SlowR50
from motionops.models.temporal_detail import finer_in_time

__all__ = [
    "BACKBONES",
    "C3D",
    "I2D",
    "I3D",
    "R2D10",
    "R2D50",
    "R3D10",
    "R3D18",
    "R3D26",
    "S3D",
    "BackboneName",
    "ProjectionHead",
    "R2D50Eighth",
    "R2DSmall",
    "R2Plus1D18",
    "R2Plus1D26",
    "R2Plus1D50",
    "R3D10Eighth",
    "R3D18Pool",
    "R3D34Pool",
    "R3DSmall",
    "SlowR50",
    "build_backbone",
    "finer_in_time",
    "load_backbone",
    "load_image_weights",
    "load_weights",
    "read_metadata",
    "save_backbone",
]
