"""Where a network looks: activation maps over frames, foreground masks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from motionops.evaluation.pictures.drawing import check_frames, colour_bar, cover, figure, save, show, written


def scaled_activation(features: Tensor) -> Tensor:
    """Class-agnostic activation map: the mean of a feature map over its channels, scaled to 0..1 in each sample.

    Args:
        features: ``[B, C, T, H, W]``.

    Returns:
        ``[B, T, H, W]`` float32. A map that is the same everywhere becomes 0.

    Source: FIMA, section 4.4, after Baek et al., "PsyNet: self-supervised approach to object localization using
    point symmetric transformation", AAAI 2020.
    """
    if features.ndim != 5:
        raise ValueError(f"scaled_activation: features must be [B, C, T, H, W], got {list(features.shape)}")
    maps = features.detach().float().mean(dim=1)
    low, high = maps.amin(dim=(1, 2, 3), keepdim=True), maps.amax(dim=(1, 2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny)


def activation_overlay(
    frames: Tensor,
    maps: Tensor,
    file: str | os.PathLike,
    titles: Sequence[str] | None = None,
    *,
    title: str | None = None,
    quantity: str = "activation",
    numbers: Tensor | None = None,
) -> Path:
    """Draw frames with an activation map over each: a line of frames and below it the same frames with the map.

    Args:
        frames: uint8 ``[B, T, H, W, 3]``.
        maps: ``[B, T', h, w]`` in 0..1; each frame gets the map of its place in time.
        file: the PNG to write.
        titles: B names for the lines.
        title: of the whole.
        quantity: what the maps are, for the colour bar.
        numbers: of the frames, ``[T]`` or ``[B, T]``.
    """
    check_frames("activation_overlay", frames, 5)
    if maps.ndim != 4 or maps.shape[0] != frames.shape[0]:
        raise ValueError(f"activation_overlay: maps must be [B={frames.shape[0]}, T, h, w], got {list(maps.shape)}")
    videos, length, height, width = frames.shape[:4]
    large = torch.nn.functional.interpolate(
        maps.float().cpu(), size=(height, width), mode="bilinear", align_corners=False
    ).clamp(0, 1)
    if numbers is not None:
        numbers = torch.as_tensor(numbers).expand(videos, length)
    fig, axes = figure(2 * videos, length, width=1.2, height=1.2 * height / width + 0.12, title=title)
    for video in range(videos):
        for t in range(length):
            plain, covered = axes[2 * video * length + t], axes[(2 * video + 1) * length + t]
            show(plain, frames[video, t])
            show(covered, frames[video, t])
            cover(covered, large[video, t * maps.shape[1] // length])
            if numbers is not None:
                covered.set_xlabel(f"frame {int(numbers[video, t])}", fontsize=6, labelpad=1)
        if titles is not None:
            axes[2 * video * length].set_title(written(titles[video]), fontsize=8, loc="left")
    colour_bar(fig, axes, quantity)
    return save(fig, file)


def map_columns(
    frames: Tensor, maps: Mapping[str, Tensor], file: str | os.PathLike, titles: Sequence[str] | None = None
) -> Path:
    """Draw a line a frame: the frame, then the same covered by a map of each column.

    Args:
        frames: uint8 ``[N, H, W, 3]``.
        maps: name -> ``[N, h, w]``, at least 0; each is scaled by its own largest value.
        file: the PNG to write.
        titles: N names for the lines.
    """
    check_frames("map_columns", frames, 4)
    for name, each in maps.items():
        if each.ndim != 3 or len(each) != len(frames):
            raise ValueError(f"map_columns: {name} must be [N={len(frames)}, h, w], got {list(each.shape)}")
    count, height, width = frames.shape[:3]
    fig, axes = figure(count, 1 + len(maps), width=1.4, height=1.4 * height / width + 0.2)
    for n in range(count):
        line = axes[n * (1 + len(maps)) : (n + 1) * (1 + len(maps))]
        show(line[0], frames[n])
        if titles is not None:
            line[0].set_title(written(titles[n]), fontsize=8, loc="left")
        for axis, (name, each) in zip(line[1:], maps.items(), strict=True):
            own = each[n].detach().float().cpu()[None, None]
            large = torch.nn.functional.interpolate(own, size=(height, width), mode="bilinear", align_corners=False)
            show(axis, frames[n])
            most = max(float(large.max()), torch.finfo(torch.float32).tiny)
            cover(axis, (large[0, 0] / most).clamp(0, 1))
            if n == 0:
                axis.set_title(written(name), fontsize=8)
    return save(fig, file)


def foreground_overlay(
    frames: Tensor,
    masks: Tensor,
    file: str | os.PathLike,
    titles: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> Path:
    """Draw frames and, below each, the same frame with its background patches blackened (FIMA, figure 8).

    Args:
        frames: uint8 ``[N, H, W, 3]``.
        masks: bool ``[N, h, w]``, true on the foreground; each cell covers its share of the frame.
        file: the PNG to write.
        titles: N names, above the frames.
        title: of the whole.
    """
    check_frames("foreground_overlay", frames, 4)
    if masks.ndim != 3 or masks.shape[0] != frames.shape[0] or masks.dtype != torch.bool:
        raise ValueError(
            f"foreground_overlay: masks must be bool [N={frames.shape[0]}, h, w], got {masks.dtype} {list(masks.shape)}"
        )
    count, height, width = frames.shape[:3]
    large = torch.nn.functional.interpolate(masks[:, None].float().cpu(), size=(height, width), mode="nearest")[:, 0]
    fig, axes = figure(2, count, width=1.5, height=1.5 * height / width + 0.15, title=title)
    for n in range(count):
        show(axes[n], frames[n])
        show(axes[count + n], (frames[n].cpu() * large[n, :, :, None]).to(torch.uint8))
        if titles is not None:
            axes[n].set_title(written(titles[n], 1.5), fontsize=8)
    for axis, name in ((axes[0], "frame"), (axes[count], "foreground")):
        axis.set_ylabel(name, fontsize=8)
    return save(fig, file)
