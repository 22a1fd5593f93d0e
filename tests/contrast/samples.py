"""Inputs of the contrastive operators, shared by their tests and benchmarks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def unit_rows(*shape: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random features of length 1 along the last axis."""
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1).to(dtype)


def queue_sample(
    rows: int,
    queue_rows: int,
    dim: int,
    *,
    extra_rows: int = 0,
    ids: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Arguments of `queue_infonce`; keys lie near their queries, ids fall into a few videos."""
    generator = torch.Generator().manual_seed(seed)
    query = unit_rows(rows, dim, generator=generator, dtype=torch.float64)
    noise = unit_rows(rows, dim, generator=generator, dtype=torch.float64)
    sample = {
        "query": query.to(dtype),
        "key": F.normalize(query + 0.5 * noise, dim=1).to(dtype),
        "queue": unit_rows(queue_rows, dim, generator=generator, dtype=dtype),
    }
    if extra_rows:
        sample["extra_negatives"] = unit_rows(extra_rows, dim, generator=generator, dtype=dtype)
    if ids:
        videos = max(2, (rows + queue_rows) // 8)
        sample["query_ids"] = torch.randint(videos, (rows,), generator=generator)
        sample["queue_ids"] = torch.randint(-1, videos, (queue_rows,), generator=generator)
    return sample


def pairwise_sample(
    rows: int, key_rows: int, dim: int, *, ids: bool = False, dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, Tensor]:
    """Arguments of `pairwise_infonce`; the first keys lie near their queries, ids fall into a few videos."""
    generator = torch.Generator().manual_seed(seed)
    query = unit_rows(rows, dim, generator=generator, dtype=torch.float64)
    key = unit_rows(key_rows, dim, generator=generator, dtype=torch.float64)
    key[:rows] = F.normalize(query + 0.5 * key[:rows], dim=1)
    sample = {"query": query.to(dtype), "key": key.to(dtype)}
    if ids:
        videos = max(2, key_rows // 8)
        sample["query_ids"] = torch.randint(-1, videos, (rows,), generator=generator)
        sample["key_ids"] = torch.randint(-1, videos, (key_rows,), generator=generator)
    return sample


def random_extents(batch: int, generator: torch.Generator) -> Tensor:
    """`[B, 3, 2]` views: crops of 0.4 to 1 of each side, mirrored half of the time."""
    size = 0.4 + 0.6 * torch.rand(batch, 2, generator=generator, dtype=torch.float64)
    start = torch.rand(batch, 2, generator=generator, dtype=torch.float64) * (1 - size)
    extents = torch.stack([start, start + size], dim=2)  # [B, (y, x), (start, end)]
    mirrored = torch.rand(batch, generator=generator) < 0.5
    extents[mirrored, 1] = extents[mirrored, 1].flip(1)
    time = torch.tensor([0.0, 32.0], dtype=torch.float64).expand(batch, 1, 2)
    return torch.cat([time, extents], dim=1)


def pixel_sample(
    batch: int,
    frames: int,
    height: int,
    width: int,
    dim: int,
    *,
    key_batch: int | None = None,
    negative_rows: int = 0,
    masks: bool = False,
    of_frames: tuple[str, ...] = (),
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Arguments of `pixel_contrast`: overlapping views, half of the pixels foreground where there are masks.

    Those named in `of_frames` differ from frame to frame.
    """
    key_batch = batch if key_batch is None else key_batch
    generator = torch.Generator().manual_seed(seed)
    sample = {
        "query": unit_rows(batch, frames, height, width, dim, generator=generator, dtype=dtype),
        "key": unit_rows(key_batch, frames, height, width, dim, generator=generator, dtype=dtype),
        "query_extent": random_extents(batch, generator).float(),
        "key_extent": random_extents(key_batch, generator).float(),
    }
    if masks:
        for name, samples in (("query_mask", batch), ("key_mask", key_batch)):
            shape = (samples, frames, height, width) if name in of_frames else (samples, height, width)
            sample[name] = torch.rand(shape, generator=generator) < 0.5
    if negative_rows:
        sample["negatives"] = unit_rows(negative_rows, dim, generator=generator, dtype=dtype)
    return sample


def region_sample(
    batch: int,
    views: int,
    query_grid: tuple[int, int, int],
    key_grid: tuple[int, int, int],
    dim: int,
    *,
    key_batch: int | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Arguments of `region_contrast`: several views of each video, and one that they are compared with."""
    key_batch = batch if key_batch is None else key_batch
    generator = torch.Generator().manual_seed(seed)
    return {
        "query": unit_rows(batch, views, *query_grid, dim, generator=generator, dtype=dtype),
        "key": unit_rows(key_batch, *key_grid, dim, generator=generator, dtype=dtype),
        "query_extent": random_extents(batch * views, generator).float().reshape(batch, views, 3, 2),
        "key_extent": random_extents(key_batch, generator).float(),
    }
