"""Backbones and heads. Needs torchvision (extra `train`)."""

from importlib.util import find_spec as _find_spec

if _find_spec("torchvision") is None:
    raise ImportError("motionops.models needs torchvision: pip install 'motionops[train]'")

from motionops.models.activation import activation_map, foreground_mask
from motionops.models.backbone_files import load_backbone, load_weights, read_metadata, save_backbone
from motionops.models.backbones import BACKBONES, BackboneName, build_backbone
from motionops.models.bfloat16_convolutions import float32_where_wrong
from motionops.models.heads import ProjectionHead
from motionops.models.hub import push_backbone
from motionops.models.image_weights import load_image_weights, starting_backbone
from motionops.models.networks.c3d import C3D
from motionops.models.networks.i3d import I2D, I3D
from motionops.models.networks.r2plus1d_50 import R2D50, R2Plus1D50
from motionops.models.networks.r3d_pool import R3D18Pool, R3D34Pool
from motionops.models.networks.resnet3d import R2Plus1D18, R3DSmall
from motionops.models.networks.s3d import S3D
from motionops.models.networks.shallow_resnets import R2D10, R3D10, R3D26, R2DSmall, R2Plus1D26, R3D10Eighth
from motionops.models.networks.slow_only import R3D18, R2D50Eighth, SlowR50
from motionops.models.shuffled_batch_norm import Shuffle, draw_shuffle, forward_shuffled
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
    "Shuffle",
    "SlowR50",
    "activation_map",
    "build_backbone",
    "draw_shuffle",
    "finer_in_time",
    "float32_where_wrong",
    "foreground_mask",
    "forward_shuffled",
    "load_backbone",
    "load_image_weights",
    "load_weights",
    "push_backbone",
    "read_metadata",
    "save_backbone",
    "starting_backbone",
]
