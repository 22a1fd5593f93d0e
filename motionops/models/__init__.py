"""Backbones and heads. Needs torchvision (extra `train`)."""

import importlib.util

if importlib.util.find_spec("torchvision") is None:
    raise ImportError("motionops.models needs torchvision: pip install 'motionops[train]'")

from motionops.models.backbones import (
    BACKBONES,
    build_backbone,
    load_backbone,
    load_weights,
    read_metadata,
    save_backbone,
)
from motionops.models.heads import ProjectionHead
from motionops.models.i3d import I3D
from motionops.models.resnet3d import R2Plus1D18, R3DSmall

__all__ = [
    "BACKBONES",
    "I3D",
    "ProjectionHead",
    "R2Plus1D18",
    "R3DSmall",
    "build_backbone",
    "load_backbone",
    "load_weights",
    "read_metadata",
    "save_backbone",
]
