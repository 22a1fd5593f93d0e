"""Inputs of the layers, shared by their tests and benchmarks."""

from __future__ import annotations

import torch
from torch import Tensor


def features_sample(
    *shape: int,
    dtype: torch.dtype = torch.float32,
    layout: str = "channels last",
    mean: float = 1.0,
    deviation: float = 2.0,
    seed: int = 0,
) -> Tensor:
    """Features `[N, C, ...]`, each channel about a mean and of a spread of its own; `layout` says how they lie."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator, dtype=torch.float64)

    def scaled(values: Tensor) -> Tensor:  # the channels are the last axis
        channels = values.shape[-1]
        spread = deviation * (0.5 + torch.rand(channels, generator=generator, dtype=torch.float64))
        return (values * spread + mean * draw(channels)).to(dtype)

    samples, channels, *extent = shape
    if layout == "channels last":
        return scaled(draw(samples, *extent, channels)).movedim(-1, 1)
    if layout == "contiguous":
        return scaled(draw(samples, *extent, channels)).movedim(-1, 1).contiguous()
    if layout == "part of the channels":
        return scaled(draw(samples, *extent, channels + 3)).movedim(-1, 1)[:, 2:-1]
    if layout == "every second sample":
        return scaled(draw(2 * samples, *extent, channels)).movedim(-1, 1)[::2]
    if layout == "one sample, expanded":
        return scaled(draw(1, *extent, channels)).movedim(-1, 1).expand(*shape)
    raise ValueError(layout)


LAYOUTS = ["channels last", "contiguous", "part of the channels", "every second sample", "one sample, expanded"]
