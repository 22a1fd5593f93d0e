"""What a rank's pixel contrast weighs among those of all ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from motionops.arrays import Array, as_optional_tensor, as_tensor, check_same_device
from motionops.contrast.pixel_contrast import positive_pairs
from motionops.ranks import sum_over_ranks, world
from motionops.scalars import check_scalars

OP = "rank_weight"


def rank_weight(
    query_extent: Tensor | Array,
    key_extent: Tensor | Array,
    height: int,
    width: int,
    *,
    radius: float = 0.7,
    query_mask: Tensor | Array | None = None,
    key_mask: Tensor | Array | None = None,
) -> Tensor:
    """What a rank's :func:`motionops.pixel_contrast` is multiplied by, so that the mean over ranks is that over all
    their samples.

    The operator's mean is over the samples that have a positive pair, and ranks may have more or fewer of them. All
    ranks must call.

    Args:
        query_extent: ``[B, 3, 2]``, as of the contrast.
        key_extent: ``[M, 3, 2]`` with M ≥ B, the first B those of the queries' own videos.
        height, width: of the maps, in cells.
        radius, query_mask, key_mask: as of the contrast; masks ``[B, H, W]`` or ``[B, T, H, W]``, the key's may have M
            rows.

    Returns:
        Scalar float32: this rank's samples that have a pair, over the mean of the ranks' numbers of them; 1 in a single
        process.

    Raises:
        TypeError: no tensors or arrays, sizes that are no whole numbers.
        ValueError: a shape or device that does not fit.
    """
    query_extent, key_extent = _as_extents("query_extent", query_extent), _as_extents("key_extent", key_extent)
    batch = len(query_extent)
    if len(key_extent) < batch:
        raise ValueError(f"{OP}: key_extent must be [M >= B={batch}, 3, 2], got {list(key_extent.shape)}")
    check_scalars(OP, real={"radius": radius}, whole={"height": height, "width": width})
    height, width, radius = int(height), int(width), float(radius)
    if min(height, width) < 1:
        raise ValueError(f"{OP}: height and width must be at least 1, got {height} and {width}")
    query_mask = _as_mask("query_mask", query_mask, batch, height, width)
    key_mask = _as_mask("key_mask", key_mask, batch, height, width)
    check_same_device(OP, "query_extent", query_extent, key_extent=key_extent, query_mask=query_mask, key_mask=key_mask)
    masks = [None if mask is None else mask[:batch] for mask in (query_mask, key_mask)]
    frames = max((mask.shape[1] for mask in masks if mask is not None and mask.ndim == 4), default=1)
    per_frame = [None if mask is None else _of_frames(mask, frames) for mask in masks]
    extents = [extent.repeat_interleave(frames, dim=0) for extent in (query_extent, key_extent[:batch])]
    pairs = positive_pairs(*extents, height, width, radius, *per_frame)
    samples = pairs.flatten(1).any(dim=1).unflatten(0, (batch, frames)).any(dim=1).sum().float()
    _, ranks = world()
    return samples * ranks / sum_over_ranks(samples).clamp(min=1) if ranks > 1 else torch.ones_like(samples)


def _as_extents(argument: str, value: Tensor | Array) -> Tensor:
    extents = as_tensor(OP, argument, value)
    if extents.ndim != 3 or extents.shape[1:] != (3, 2):
        raise ValueError(f"{OP}: {argument} must be [B, 3, 2], got {list(extents.shape)}")
    if not extents.is_floating_point():
        raise TypeError(f"{OP}: {argument} must be of a floating type, got {extents.dtype}")
    return extents


def _as_mask(argument: str, value: Tensor | Array | None, batch: int, height: int, width: int) -> Tensor | None:
    mask = as_optional_tensor(OP, argument, value)
    if mask is None:
        return None
    if mask.dtype != torch.bool:
        raise TypeError(f"{OP}: {argument} must be bool, got {mask.dtype}")
    if mask.ndim not in (3, 4) or len(mask) < batch or mask.shape[-2:] != (height, width):
        expected = f"[B={batch}, H={height}, W={width}] or [B={batch}, T, H={height}, W={width}]"
        raise ValueError(f"{OP}: {argument} must be {expected}, got {list(mask.shape)}")
    return mask


def _of_frames(mask: Tensor, frames: int) -> Tensor:
    """``[B, H, W]`` or ``[B, T, H, W]`` as ``[B T, H, W]``."""
    return mask.flatten(0, 1) if mask.ndim == 4 else mask.repeat_interleave(frames, dim=0)
