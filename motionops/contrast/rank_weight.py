"""What a rank's pixel contrast weighs among those of all ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from motionops.contrast.pixel_contrast import positive_pairs
from motionops.ranks import sum_over_ranks, world


def rank_weight(
    query_extent: Tensor,
    key_extent: Tensor,
    height: int,
    width: int,
    *,
    radius: float = 0.7,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
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
    """
    batch = len(query_extent)
    masks = [None if mask is None else mask[:batch] for mask in (query_mask, key_mask)]
    frames = max((mask.shape[1] for mask in masks if mask is not None and mask.ndim == 4), default=1)
    per_frame = [None if mask is None else _of_frames(mask, frames) for mask in masks]
    extents = [extent.repeat_interleave(frames, dim=0) for extent in (query_extent, key_extent[:batch])]
    pairs = positive_pairs(*extents, height, width, radius, *per_frame)
    samples = pairs.flatten(1).any(dim=1).unflatten(0, (batch, frames)).any(dim=1).sum().float()
    _, ranks = world()
    return samples * ranks / sum_over_ranks(samples).clamp(min=1) if ranks > 1 else torch.ones_like(samples)


def _of_frames(mask: Tensor, frames: int) -> Tensor:
    """``[B, H, W]`` or ``[B, T, H, W]`` as ``[B T, H, W]``."""
    return mask.flatten(0, 1) if mask.ndim == 4 else mask.repeat_interleave(frames, dim=0)
