"""Inputs of the operators on views."""

from __future__ import annotations

import torch
from torch import Tensor


def random_views(count: int, seed: int = 0) -> Tensor:
    """`[count, 3, 2]` random views, mirrored along any axis, that overlap or do not."""
    generator = torch.Generator().manual_seed(seed)
    extents = torch.rand(count, 3, 2, generator=generator)
    extents[:, 0] *= 64
    return extents
