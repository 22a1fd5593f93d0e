"""Encodings of places in a sequence."""

from __future__ import annotations

import torch
from torch import Tensor


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """`[length, width]`: sin(p / 10000^(2i/width)) in the even, cos in the odd channels (Vaswani et al. 2017)."""
    frequencies = torch.pow(10000.0, -torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()
