"""What the operators on flow fields share in Python."""

from __future__ import annotations

import torch
from torch import Tensor


def safe_sqrt(squares: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0, where that of torch.sqrt is infinite."""
    positive = squares > 0
    root = torch.where(positive, squares, 1).sqrt()
    return torch.where(positive, root, squares * 0)  # not a constant 0: NaN stays NaN


def as_clips(op: str, flow: Tensor) -> Tensor:
    """``flow`` ``[..., T, 2, H, W]`` with one leading axis, as the operators take it; ValueError for another shape."""
    if flow.ndim < 4 or flow.shape[-3] != 2:
        raise ValueError(f"{op}: flow must be [..., T, 2, H, W], got {list(flow.shape)}")
    if flow.ndim == 5:
        return flow
    return flow.flatten(0, -5) if flow.ndim > 5 else flow.unsqueeze(0)


def with_axes_of(flow: Tensor, maps: Tensor) -> Tensor:
    """``maps`` ``[B, ...]`` with the leading axes of ``flow`` ``[..., T, 2, H, W]`` for B."""
    if flow.ndim == 5:
        return maps
    return maps.unflatten(0, flow.shape[:-4]) if flow.ndim > 5 else maps.squeeze(0)
