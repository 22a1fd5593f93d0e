"""The arguments of ``augment_clips``: what fits, and what is said of what does not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from motionops.arrays import as_tensor
from motionops.scalars import is_whole
from motionops.views.appearance import Appearance

Channels = tuple[float, float, float]
Checked = tuple["Tensor | list[Tensor]", Tensor, "tuple[int, int]", "Appearance | None", Channels, Channels, int]


def check_arguments(frames, extents, size, appearance, mean, std, dtype, blur_kernel) -> Checked:
    """The arguments as tensors on one device; errors as ``augment_clips`` documents them.

    Values are looked at where that costs no synchronisation, on the CPU, and not while torch.compile traces.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"augment_clips: dtype must be a floating type, got {dtype}")
    size = _sides(size)
    frames = _frames(frames)
    batch = len(frames)
    device = frames.device if isinstance(frames, Tensor) else (frames[0].device if frames else None)
    if extents is None:
        extents = torch.arange(2, dtype=torch.float32, device=device or "cpu").expand(batch, 3, 2)  # 0 to 1 everywhere
    extents = _tensor("extents", extents)
    device = extents.device if device is None else device
    if extents.shape != (batch, 3, 2):
        raise ValueError(f"augment_clips: extents must be [B={batch}, 3, 2], got {list(extents.shape)}")
    _same_device("extents", extents, device)
    if not extents.is_floating_point():
        raise TypeError(f"augment_clips: extents must be floating, got {extents.dtype}")
    if appearance is not None:
        appearance = _appearance(appearance, batch, device)
    if device.type == "cpu" and not torch.compiler.is_compiling():
        _check_values(extents, appearance)
    mean, std = _per_channel("mean", mean), _per_channel("std", std)
    if min(std) <= 0:
        raise ValueError(f"augment_clips: std must be > 0, got {list(std)}")
    side = min(size)
    kernel = int(blur_kernel) if is_whole(blur_kernel) else default_blur_kernel(side) if blur_kernel is None else 0
    if kernel < 1 or kernel % 2 == 0 or kernel // 2 >= side:
        raise ValueError(
            f"augment_clips: blur_kernel must be odd, >= 1 and < 2 * size = {2 * side}, got {blur_kernel!r}"
        )
    return frames, extents, size, appearance, mean, std, kernel


def _sides(size) -> tuple[int, int]:
    """Height and width, of one number or of two."""
    sides = [size, size] if is_whole(size) else list(size) if isinstance(size, (Sequence, np.ndarray, Tensor)) else []
    if len(sides) != 2 or any(isinstance(side, bool) or not is_whole(side) or int(side) < 1 for side in sides):
        raise ValueError(f"augment_clips: size must be an integer >= 1, or two (height, width), got {size!r}")
    return int(sides[0]), int(sides[1])


def _tensor(name: str, value) -> Tensor:
    return as_tensor("augment_clips", name, value)


def _frames(frames) -> Tensor | list[Tensor]:
    if isinstance(frames, Sequence):
        videos = [_tensor(f"frames[{place}]", video) for place, video in enumerate(frames)]
        for place, video in enumerate(videos):
            _check_frames(f"frames[{place}]", video, ("T", "H", "W", 3))
            _same_device(f"frames[{place}]", video, videos[0].device)
            if len(video) != len(videos[0]):
                raise ValueError(
                    f"augment_clips: frames[{place}] must be [T={len(videos[0])}, H, W, 3] like frames[0], "
                    f"got {list(video.shape)}"
                )
        return videos
    frames = _tensor("frames", frames)
    _check_frames("frames", frames, ("B", "T", "H", "W", 3))
    return frames


def _check_frames(name: str, frames: Tensor, shape: tuple) -> None:
    expected = ", ".join(str(length) for length in shape)
    if frames.dtype != torch.uint8:
        raise TypeError(f"augment_clips: {name} must be uint8 [{expected}], got {frames.dtype}")
    if frames.ndim != len(shape) or frames.shape[-1] != 3:
        raise ValueError(f"augment_clips: {name} must be [{expected}], got {list(frames.shape)}")
    if frames.shape[-3] == 0 or frames.shape[-2] == 0:
        raise ValueError(f"augment_clips: {name} must have H >= 1 and W >= 1, got {list(frames.shape)}")


def _same_device(name: str, value: Tensor, device: torch.device) -> None:
    if value.device != device:
        raise ValueError(f"augment_clips: {name} must be on {device}, where the frames are, got {value.device}")


def _appearance(appearance, batch: int, device: torch.device) -> Appearance:
    if not isinstance(appearance, Appearance):
        raise TypeError(f"augment_clips: appearance must be an Appearance or None, got {type(appearance).__name__}")
    shapes = {"jitter": (batch, 4), "order": (batch, 4), "grayscale": (batch,), "blur_sigma": (batch,)}
    fields = {}
    for name, shape in shapes.items():
        value = fields[name] = _tensor(f"appearance.{name}", getattr(appearance, name))
        if value.shape != shape:
            expected = ", ".join([f"B={batch}", *map(str, shape[1:])])
            raise ValueError(f"augment_clips: appearance.{name} must be [{expected}], got {list(value.shape)}")
        _same_device(f"appearance.{name}", value, device)
    for name in ("jitter", "blur_sigma"):
        if not fields[name].is_floating_point():
            raise TypeError(f"augment_clips: appearance.{name} must be floating, got {fields[name].dtype}")
    if fields["order"].is_floating_point() or fields["order"].is_complex():
        raise TypeError(f"augment_clips: appearance.order must be integers, got {fields['order'].dtype}")
    if fields["grayscale"].dtype != torch.bool:
        raise TypeError(f"augment_clips: appearance.grayscale must be bool, got {fields['grayscale'].dtype}")
    return Appearance(**fields)


def _check_values(extents: Tensor, appearance: Appearance | None) -> None:
    spans = extents.float().diff(dim=-1)  # in the type of the arithmetic, and not overflowing
    if not bool(spans.isfinite().all()):
        raise ValueError("augment_clips: extents must be finite in float32, got NaN or infinity")
    if appearance is None:
        return
    jitter, order, sigma = appearance.jitter, appearance.order, appearance.blur_sigma
    if not bool((jitter[:, :3] >= 0).all() & (jitter[:, 3].abs() <= 0.5).all() & jitter.float().isfinite().all()):
        raise ValueError("augment_clips: appearance.jitter must be three finite factors >= 0 and a hue in [-0.5, 0.5]")
    if not bool((order.sort(dim=1).values == torch.arange(4, device=order.device)).all()):
        raise ValueError("augment_clips: appearance.order must hold a permutation of 0, 1, 2, 3 in each row")
    if not bool(((sigma >= 0) & sigma.float().isfinite()).all()):
        raise ValueError("augment_clips: appearance.blur_sigma must be finite and >= 0")


def _per_channel(name: str, value) -> Channels:
    """Three numbers; those of a CUDA tensor have to be fetched."""
    numbers = value.tolist() if isinstance(value, (Tensor, np.ndarray, np.generic)) else value
    numbers = list(numbers) if isinstance(numbers, (list, tuple)) else [numbers]
    if not all(hasattr(number, "__float__") for number in numbers):
        raise TypeError(f"augment_clips: {name} must be one or 3 numbers, got {value!r}")
    numbers = [float(number) for number in numbers]
    if len(numbers) not in (1, 3) or not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"augment_clips: {name} must be one or 3 finite numbers, got {numbers}")
    return tuple(numbers * 3 if len(numbers) == 1 else numbers)


BLUR_KERNEL_SHARE = 23 / 224  # of the size of the view: the released FIMA blurs views of 224 pixels with a kernel of 23


def default_blur_kernel(size: int) -> int:
    """The odd width nearest to 23 / 224 of the view's shorter side that it can hold; at least 3, or 1 for one pixel."""
    kernel = max(3, 2 * round((BLUR_KERNEL_SHARE * size - 1) / 2) + 1)
    return min(kernel, 2 * size - 1)
