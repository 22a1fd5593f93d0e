"""Backbones by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from motionops.models.gpu_convolutions import fit_convolutions
from motionops.models.networks.c3d import C3D
from motionops.models.networks.i3d import I2D, I3D
from motionops.models.networks.r2plus1d_50 import R2D50, R2Plus1D50
from motionops.models.networks.r3d_pool import R3D18Pool, R3D34Pool
from motionops.models.networks.resnet3d import R2Plus1D18, R3DSmall
from motionops.models.networks.s3d import S3D
from motionops.models.networks.shallow_resnets import R2D10, R3D10, R3D26, R2DSmall, R2Plus1D26, R3D10Eighth
from motionops.models.networks.slow_only import R3D18, R2D50Eighth, SlowR50
from motionops.models.networks.torchvision_blocks import join_norms

BACKBONES = {"i3d": I3D, "r2plus1d_18": R2Plus1D18, "r3d_small": R3DSmall}
BACKBONES |= {"slow_r50": SlowR50, "r3d_18": R3D18, "r2d_50_eighth": R2D50Eighth}
BACKBONES |= {"r2plus1d_50": R2Plus1D50, "s3d": S3D, "r2d_50": R2D50, "i2d": I2D}
BACKBONES |= {"r3d_18_pool": R3D18Pool, "r3d_34_pool": R3D34Pool}
BACKBONES |= {"c3d": C3D, "r3d_26": R3D26, "r2plus1d_26": R2Plus1D26, "r3d_10": R3D10, "r2d_10": R2D10}
BACKBONES |= {"r2d_small": R2DSmall, "r3d_10_eighth": R3D10Eighth}
BackboneName = Literal[
    "i3d",
    "r2plus1d_18",
    "r3d_small",
    "slow_r50",
    "r3d_18",
    "r2d_50_eighth",
    "r2plus1d_50",
    "s3d",
    "r2d_50",
    "i2d",
    "r3d_18_pool",
    "r3d_34_pool",
    "c3d",
    "r3d_26",
    "r2plus1d_26",
    "r3d_10",
    "r2d_10",
    "r2d_small",
    "r3d_10_eighth",
]

if TYPE_CHECKING:

    class Backbone(nn.Module):
        """What `build_backbone` adds to a network, for checkers and editors: to Python it is an `nn.Module`."""

        name: str
        channels: int
        kwargs: dict[str, Any]
        clip_settings: dict[str, Any]

        def __call__(self, clip: Tensor) -> Tensor: ...
else:
    Backbone = nn.Module


def build_backbone(name: str, **kwargs: Any) -> Backbone:
    """Build a backbone with fresh weights.

    Args:
        name: a key of `BACKBONES`.
        kwargs: what that class takes (`widths` and `inputs` of `r3d_small`, `stem_frames` of `slow_r50`).

    Returns:
        A module with `forward(clip [B, 3, T, S, S]) -> [B, C, T', H', W']`, attributes `channels` (C), `name` and
        `kwargs` (what this function was called with: they go into saved files).

    Raises:
        ValueError: an unknown name; its text lists the known ones.
    """
    if name not in BACKBONES:
        raise ValueError(f"build_backbone: name must be one of {', '.join(BACKBONES)}, got {name!r}")
    backbone = BACKBONES[name](**kwargs)
    join_norms(backbone)
    fit_convolutions(backbone)
    backbone.name, backbone.kwargs = name, dict(kwargs)
    return backbone
