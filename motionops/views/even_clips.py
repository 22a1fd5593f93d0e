"""Where the clips lie that a tested network sees: evenly spread in time, central squares in space."""

from __future__ import annotations

import torch
from torch import Tensor

from motionops.views.host import on_the_cpu

# 224 of 256: the share of the short side that a centre crop keeps in the papers' test protocols.
CENTRE_CROP = 0.875


@on_the_cpu
def clip_starts(length: int, clips: int, frames: int, stride: int) -> Tensor:
    """First frames of evenly spread clips, int64 ``[clips]``; one clip starts in the middle of what is possible.

    Raises:
        ValueError: the video of ``length`` frames is shorter than a clip, ``(frames - 1) * stride + 1``.
    """
    last = length - ((frames - 1) * stride + 1)
    if last < 0:
        raise ValueError(f"clip_starts: length must be at least {length - last}, got {length}")
    if clips == 1:
        return torch.tensor([last // 2])
    return (torch.arange(clips) * last + (clips - 1) // 2) // (clips - 1)


def segment_frames(length: int, frames: int, generator: torch.Generator | None = None) -> Tensor:
    """One frame of each of ``frames`` equal segments of a whole video, int64 ``[frames]``, as SlowFast samples
    Something-Something v2: the middle one, or with a generator any of them; the ends of neighbours are shared.

    A video with fewer frames than segments shows some of them several times.
    """
    ends = (torch.arange(frames + 1, dtype=torch.float64) * ((length - 1) / frames)).round().long()
    start, last = ends[:-1], ends[1:]
    if generator is None:
        return (start + last) // 2
    return start + (torch.rand(frames, generator=generator, dtype=torch.float64) * (last - start + 1)).long()


def hold_last(numbers: Tensor, length: int) -> Tensor:
    """Frame numbers of which those behind the end of a video of ``length`` frames name its last frame."""
    return numbers.clamp(max=length - 1)


@on_the_cpu
def square_extents(height: int, width: int, crop: float, crops: int) -> Tensor:
    """Extents ``[crops, 3, 2]`` of squares with ``crop`` times the short side, spread evenly along the long side."""
    extents = centre_extent(height, width, crop).repeat(crops, 1, 1)
    if crops > 1:
        row = 2 if width >= height else 1
        side = crop * min(height, width) / max(height, width)
        start = torch.linspace(0.0, 1.0 - side, crops, dtype=torch.float32)
        extents[:, row] = torch.stack([start, start + side], dim=1)
    return extents


@on_the_cpu
def centre_extent(height: int, width: int, crop: float = CENTRE_CROP) -> Tensor:
    """Extent ``[3, 2]`` of the centre square whose side is ``crop`` of the short side; the t row is (0, 1)."""
    side = crop * min(height, width)
    rows = [(0.0, 1.0)]
    rows += [(0.5 - 0.5 * side / length, 0.5 + 0.5 * side / length) for length in (height, width)]
    return torch.tensor(rows, dtype=torch.float32)
