"""Frames of which the centre squares are wanted, at one size, instead of their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from motionops.flow.clip_flow import BT601
from motionops.views.augment_clips import augment_clips
from motionops.views.even_clips import centre_extent

TOGETHER = 16  # frames that are cut at once: their squares are float32 in between


class Squares(NamedTuple):
    """What a plan has as its own where frames are sent as squares; an item's own are then the squares, uint8
    `[n, size, size, 3]`, or 1 where they are `grey`.

    Attributes:
        numbers: int64 `[n]`, of the frames.
        size: side of a square in pixels.
        grey: whether brightness is all that is wanted of them (BT.601, rounded).
    """

    numbers: Tensor
    size: int
    grey: bool = False


def squares_of(pictures: Tensor, places: Tensor, wanted: Squares) -> Tensor:
    """The squares of the pictures uint8 `[F, H, W, 3]` at `places [n]`, as `wanted`; each is computed once."""
    distinct, inverse = torch.unique(places, return_inverse=True)
    made = []
    for part in distinct.to(pictures.device).split(TOGETHER):
        squares = centre_squares(pictures[part][None], wanted.size)[0]
        if wanted.grey:
            squares = brightness(squares).round().to(torch.uint8)[..., None]
        made.append(squares)
    return torch.cat(made)[inverse.to(pictures.device)]


def centre_squares(frames: Tensor | Sequence[Tensor], size: int) -> Tensor:
    """Centre squares of pictures: uint8 `[B, N, H, W, 3]` or B tensors `[N, H, W, 3]` -> uint8 `[B, N, S, S, 3]`."""
    extents = torch.stack([centre_extent(*video.shape[1:3], crop=1.0) for video in frames])
    cut = augment_clips(frames, extents.to(frames[0].device), size, mean=0.0, std=1.0)
    return (255 * cut).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()


def brightness(pictures: Tensor) -> Tensor:
    """uint8 `[..., 3]`, or 1 that are grey already -> float32 `[...]`, 0..255."""
    if pictures.shape[-1] == 1:
        return pictures[..., 0].float()
    return pictures.float() @ pictures.new_tensor(BT601, dtype=torch.float32)
