"""What moves: flow as colours, motion maps, and the boxes that were chosen by them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from motionops.evaluation.pictures.drawing import check_frames, figure, save, show

_BOX = "#ffd000"


def flow_colours(flow: Tensor, largest: float | None = None) -> Tensor:
    """Flow as colours: the direction as hue (right red, down green-yellow, left cyan, up violet), the length as colour.

    Args:
        flow: ``[..., 2, H, W]``, u to the right and v down.
        largest: length in pixels that has the full colour; by default that of the longest vector.

    Returns:
        uint8 ``[..., H, W, 3]``; white where nothing moves.
    """
    if flow.ndim < 3 or flow.shape[-3] != 2:
        raise ValueError(f"flow_colours: flow must be [..., 2, H, W], got {list(flow.shape)}")
    u, v = flow.detach().float().cpu().unbind(dim=-3)
    length = torch.hypot(u, v)
    scale = largest if largest is not None else float(length.max()) if length.numel() else 0.0
    strength = (length / scale).clamp(0, 1) if scale > 0 else torch.zeros_like(length)
    hue = torch.atan2(v, u)[..., None] - torch.tensor([0.0, 2.0, 4.0]) * (math.pi / 3)
    bright = (0.5 + torch.cos(hue)).clamp(0, 1)
    return (255 * (1 - strength[..., None] * (1 - bright))).round().to(torch.uint8)


def motion_panels(
    frames: Sequence[Tensor], flow: Sequence[Tensor], maps: Sequence[Tensor], boxes: Tensor, file: str | os.PathLike
) -> Path:
    """Draw what moves: a line a video with its frame and the chosen box, its flow, its motion map; a colour wheel last.

    Args:
        frames: N frames uint8 ``[H, W, 3]``, as a list, whose sizes may differ, or as one tensor ``[N, H, W, 3]``.
        flow: N of ``[2, h, w]``, in pixels, as a list or one tensor; of any resolution.
        maps: N motion maps ``[h, w]``, at least 0, as a list or one tensor; of any resolution.
        boxes: ``[N, 2, 2]``, rows (y, x), columns (start, end), fractions of the picture; start > end is mirrored.
        file: the PNG to write. The wheel's rim is the longest vector of all, in pixels.

    Raises:
        ValueError: frames that are not uint8 ``[H, W, 3]``, no video, or not the same number of each.
    """
    for frame in frames:
        check_frames("motion_panels", frame, 3)
    if not len(frames) or len(flow) != len(frames) or len(maps) != len(frames) or boxes.shape != (len(frames), 2, 2):
        raise ValueError(
            "motion_panels: flow, maps and boxes must be of the same N >= 1 videos as frames, got "
            f"{len(frames)} frames, {len(flow)} flows, {len(maps)} maps and boxes {list(boxes.shape)}"
        )
    from matplotlib.patches import Rectangle

    largest = max(float(field.norm(dim=-3).max()) for field in flow)
    fig, axes = figure(len(frames) + 1, 3, width=1.8, height=1.6)
    for n, frame in enumerate(frames):
        height, width = frame.shape[:2]
        first, second, third = axes[3 * n : 3 * n + 3]
        show(first, frame)
        (top, bottom), (left, right) = boxes[n].sort(dim=-1).values.tolist()
        corner = (left * width - 0.5, top * height - 0.5)
        box = ((right - left) * width, (bottom - top) * height)
        first.add_patch(Rectangle(corner, *box, fill=False, edgecolor=_BOX, linewidth=1.5))
        show(second, flow_colours(flow[n], largest))
        third.imshow(maps[n].detach().float().cpu().numpy(), cmap="inferno", vmin=0, extent=(0, width, height, 0))
        third.set_axis_off()
    for axis, title in zip(axes, ("frame and view", "flow", "motion map"), strict=False):
        axis.set_title(title, fontsize=8)
    side = torch.linspace(-1, 1, 101)
    wheel = torch.stack(torch.meshgrid(side, side, indexing="xy"))
    wheel[:, wheel.norm(dim=0) > 1] = 0
    show(axes[-2], flow_colours(wheel, 1.0))
    axes[-2].set_xlabel(f"rim: {largest:.2f} pixels", fontsize=7)
    for axis in (axes[-3], axes[-1]):
        axis.set_axis_off()
    return save(fig, file)
