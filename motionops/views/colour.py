"""Colour adjustments of clips ``[n, 3, T, S, S]`` in [0, 1] with one factor a clip, as torchvision's ``adjust_*``."""

from __future__ import annotations

import torch
from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of networks over ImageNet's pictures
GRAY_WEIGHTS = (0.2989, 0.587, 0.114)  # torchvision's rgb_to_grayscale

# Of colours in 0..1, red, green, blue. Kinetics': those of torchvision's and most other video networks; FIMA was
# released with them too. ImageNet's: those of networks that began with weights of pictures.
KINETICS_MEAN, KINETICS_STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def gray(clips: Tensor) -> Tensor:
    """``[n, 1, T, S, S]``: the weighted mean of the colours."""
    red, green, blue = clips.unbind(1)
    return (GRAY_WEIGHTS[0] * red).add_(green, alpha=GRAY_WEIGHTS[1]).add_(blue, alpha=GRAY_WEIGHTS[2])[:, None]


def brightness(clips: Tensor, factor: Tensor) -> Tensor:
    """factor · x, clamped."""
    return (clips * _per_clip(factor)).clamp_(0, 1)


def contrast(clips: Tensor, factor: Tensor) -> Tensor:
    """factor · x + (1 - factor) · mean of the frame's gray, clamped."""
    return _blend(clips, gray(clips).mean(dim=(-2, -1), keepdim=True), factor)


def saturation(clips: Tensor, factor: Tensor) -> Tensor:
    """factor · x + (1 - factor) · gray, clamped."""
    return _blend(clips, gray(clips), factor)


def hue(clips: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by ``shift`` turns; value and saturation (of HSV) stay.

    With M the largest and C the largest minus the smallest channel, a channel of hue h (in sixths) is
    M - C · clamp(min(k, 4 - k), 0, 1), k = (n + h) mod 6, n = 5, 3, 1 for red, green, blue.
    """
    red, green, blue = clips.unbind(1)
    largest = torch.maximum(torch.maximum(red, green), blue)
    chroma = largest - torch.minimum(torch.minimum(red, green), blue)
    scale = chroma.clamp(min=torch.finfo(clips.dtype).tiny).reciprocal_()
    angle = torch.where(
        largest == red,
        (green - blue) * scale,
        torch.where(largest == green, (blue - red) * scale + 2, (red - green) * scale + 4),
    )
    angle += 6 * _per_clip(shift)[:, 0]
    turned = torch.empty_like(clips)
    for channel, offset in enumerate((5, 3, 1)):
        k = (angle + offset).remainder_(6)
        k = torch.minimum(k, 4 - k).clamp_(0, 1)
        torch.addcmul(largest, k, chroma, value=-1, out=turned[:, channel])
    return turned


def _blend(clips: Tensor, base: Tensor, factor: Tensor) -> Tensor:
    factor = _per_clip(factor)
    return (clips * factor).add_(base * (1 - factor)).clamp_(0, 1)


def _per_clip(factor: Tensor) -> Tensor:
    return factor.view(-1, 1, 1, 1, 1)
