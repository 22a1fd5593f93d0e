"""Inputs of the flow operators, shared by their tests and benchmarks."""

from __future__ import annotations

import torch
from torch import Tensor


def clip_sample(*shape: int, dtype: torch.dtype = torch.float32, layout: str = "contiguous", seed: int = 0) -> Tensor:
    """A clip `[B, C, T, H, W]` in [0, 1]; `layout` says how it lies in memory."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*sizes: int) -> Tensor:
        return torch.rand(*sizes, generator=generator, dtype=torch.float64).to(dtype)

    batch, channels, frames, height, width = shape
    if layout == "contiguous":
        return draw(*shape)
    if layout == "channels last":
        return draw(*shape).contiguous(memory_format=torch.channels_last_3d)
    if layout == "frames first":  # as a decoder gives them: [B, T, H, W, C], seen as [B, C, T, H, W]
        return draw(batch, frames, height, width, channels).permute(0, 4, 1, 2, 3)
    if layout == "every second frame":
        return draw(batch, channels, 2 * frames, height, width)[:, :, ::2]
    if layout == "crop":
        return draw(batch, channels, frames, height + 2, width + 3)[..., 1:-1, 2:-1]
    if layout == "transposed":
        return draw(*shape).transpose(3, 4).contiguous().transpose(3, 4)
    if layout == "one clip, expanded":
        return draw(1, *shape[1:]).expand(*shape)
    raise ValueError(layout)


LAYOUTS = [
    "contiguous",
    "channels last",
    "frames first",
    "every second frame",
    "crop",
    "transposed",
    "one clip, expanded",
]
