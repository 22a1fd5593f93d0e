"""Inputs of the flow operators, shared by their tests and benchmarks."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


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


def texture(height: int, width: int, *, seed: int = 0, detail: int = 6) -> Tensor:
    """A smooth random image `[height, width]`, 0 to 255, about one bump every `detail` pixels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, height // detail + 4, width // detail + 4, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, scale_factor=detail, mode="bicubic")
    return 255 * fine[0, 0, detail : detail + height, detail : detail + width].clamp(0, 1)


def image_pair(
    count: int, height: int, width: int, *, shift: tuple[int, int] = (1, 1), seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Two uint8 images `[count, height, width]`, the content of the second moved by `shift`: down, right."""
    down, right = shift
    pairs = []
    for number in range(count):
        image = texture(height + down, width + right, seed=seed + number).byte()
        pairs.append((image[down:, right:], image[:height, :width]))
    if not pairs:
        return tuple(torch.zeros(0, height, width, dtype=torch.uint8) for _ in range(2))
    previous, following = zip(*pairs, strict=True)
    return torch.stack(previous), torch.stack(following)


def flow_sample(*shape: int, dtype: torch.dtype = torch.float32, layout: str = "contiguous", seed: int = 0) -> Tensor:
    """A rough flow `[B, T, 2, H, W]` of a few pixels; `layout` says how it lies in memory."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*sizes: int) -> Tensor:
        return (3 * torch.randn(*sizes, generator=generator, dtype=torch.float64)).to(dtype)

    batch, frames, channels, height, width = shape
    if layout == "contiguous":
        return draw(*shape)
    if layout == "vectors last":  # as OpenCV gives them: [B, T, H, W, 2]
        return draw(batch, frames, height, width, channels).permute(0, 1, 4, 2, 3)
    if layout == "channels first":
        return draw(batch, channels, frames, height, width).transpose(1, 2)
    if layout == "every second frame":
        return draw(batch, 2 * frames, channels, height, width)[:, ::2]
    if layout == "crop":
        return draw(batch, frames, channels, height + 2, width + 3)[..., 1:-1, 2:-1]
    if layout == "transposed":
        return draw(*shape).transpose(3, 4).contiguous().transpose(3, 4)
    if layout == "one frame, expanded":
        return draw(batch, 1, channels, height, width).expand(*shape)
    raise ValueError(layout)


FLOW_LAYOUTS = [
    "contiguous",
    "vectors last",
    "channels first",
    "every second frame",
    "crop",
    "transposed",
    "one frame, expanded",
]

# 0 and 1 along every axis, odd tails, rows that may and may not be read 16 bytes at a time, several strips and tiles
FLOW_SHAPES = [
    (0, 2, 2, 4, 5),
    (2, 0, 2, 4, 5),
    (2, 3, 2, 0, 5),
    (2, 3, 2, 5, 0),
    (1, 1, 2, 1, 1),
    (1, 2, 2, 1, 9),
    (2, 1, 2, 9, 1),
    (1, 1, 2, 2, 2),
    (2, 3, 2, 7, 13),
    (1, 2, 2, 16, 24),
    (1, 1, 2, 131, 67),
]
