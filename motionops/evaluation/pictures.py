"""Pictures of a run: training curves, foreground masks, activation maps, motion, retrieved neighbours.

Every function writes one PNG and returns its path. Frames are uint8 ``[H, W, 3]``, as they were read. matplotlib is
imported where it draws, and always without a display.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

_DOTS_PER_INCH = 100
_RIGHT, _WRONG, _NEUTRAL = "#1a7f37", "#c0392b", "#444444"
_BOX = "#ffd000"


def training_curves(metrics: str | os.PathLike, file: str | os.PathLike) -> Path:
    """Draw every column of a run's ``metrics.csv`` against the step, one panel each.

    Args:
        metrics: CSV with a header and a ``step`` column; a row need not fill all columns. Values per step and
            means per epoch of one quantity (``loss_step``, ``loss_epoch``) share a panel.
        file: the PNG to write.

    Raises:
        ValueError: the file has no ``step`` column or no value to draw.
    """
    with open(metrics, newline="") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or "step" not in rows[0]:
        raise ValueError(f"training_curves: {metrics} must have a header with 'step' and at least one row")
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for row in rows:
        for column, text in row.items():
            if column in ("step", "epoch", None) or not text or not row["step"]:
                continue
            value = float(text)
            if not math.isfinite(value):
                continue
            quantity = column.removesuffix("_step").removesuffix("_epoch")
            steps, values = panels.setdefault(quantity, {}).setdefault(column, ([], []))
            steps.append(float(row["step"]))
            values.append(value)
    if not panels:
        raise ValueError(f"training_curves: {metrics} holds no finite value")

    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure, axes = _figure(lines, columns, width=3.6, height=2.4)
    for axis, (quantity, curves) in zip(axes, sorted(panels.items()), strict=False):
        for column, (steps, values) in curves.items():
            per_epoch = column.endswith("_epoch")
            # A thin line for the noisy values of single steps, a strong one for means.
            axis.plot(
                steps,
                values,
                color="#1f4e79",
                linewidth=1.8 if per_epoch or len(curves) == 1 else 0.7,
                alpha=1.0 if per_epoch or len(curves) == 1 else 0.5,
                marker="." if len(values) < 3 else None,
            )
        axis.set_title(quantity, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
    for axis in axes[len(panels) :]:
        axis.axis("off")
    return _save(figure, file)


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
    frames: Tensor, maps: Tensor, file: str | os.PathLike, titles: Sequence[str] | None = None
) -> Path:
    """Draw frames with an activation map over each: a line of frames and below it the same frames with the map.

    Args:
        frames: uint8 ``[B, T, H, W, 3]``.
        maps: ``[B, T', h, w]`` in 0..1; each frame gets the map of its place in time.
        file: the PNG to write.
        titles: B names for the lines.
    """
    _check_frames("activation_overlay", frames, 5)
    if maps.ndim != 4 or maps.shape[0] != frames.shape[0]:
        raise ValueError(f"activation_overlay: maps must be [B={frames.shape[0]}, T, h, w], got {list(maps.shape)}")
    videos, length, height, width = frames.shape[:4]
    large = torch.nn.functional.interpolate(
        maps.float().cpu(), size=(height, width), mode="bilinear", align_corners=False
    ).clamp(0, 1)
    figure, axes = _figure(2 * videos, length, width=1.2, height=1.2 * height / width + 0.12)
    for video in range(videos):
        for t in range(length):
            plain, covered = axes[2 * video * length + t], axes[(2 * video + 1) * length + t]
            _show(plain, frames[video, t])
            _show(covered, frames[video, t])
            covered.imshow(large[video, t * maps.shape[1] // length].numpy(), cmap="jet", alpha=0.45, vmin=0, vmax=1)
        if titles is not None:
            axes[2 * video * length].set_title(titles[video], fontsize=8, loc="left")
    return _save(figure, file)


def foreground_overlay(
    frames: Tensor, masks: Tensor, file: str | os.PathLike, titles: Sequence[str] | None = None
) -> Path:
    """Draw frames and, below each, the same frame with its background patches blackened (FIMA, figure 8).

    Args:
        frames: uint8 ``[N, H, W, 3]``.
        masks: bool ``[N, h, w]``, true on the foreground; each cell covers its share of the frame.
        file: the PNG to write.
        titles: N names, above the frames.
    """
    _check_frames("foreground_overlay", frames, 4)
    if masks.ndim != 3 or masks.shape[0] != frames.shape[0] or masks.dtype != torch.bool:
        raise ValueError(
            f"foreground_overlay: masks must be bool [N={frames.shape[0]}, h, w], got {masks.dtype} {list(masks.shape)}"
        )
    count, height, width = frames.shape[:3]
    large = torch.nn.functional.interpolate(masks[:, None].float().cpu(), size=(height, width), mode="nearest")[:, 0]
    figure, axes = _figure(2, count, width=1.5, height=1.5 * height / width + 0.15)
    for n in range(count):
        _show(axes[n], frames[n])
        _show(axes[count + n], (frames[n].cpu() * large[n, :, :, None]).to(torch.uint8))
        if titles is not None:
            axes[n].set_title(titles[n], fontsize=8)
    return _save(figure, file)


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
        _check_frames("motion_panels", frame, 3)
    if not len(frames) or len(flow) != len(frames) or len(maps) != len(frames) or boxes.shape != (len(frames), 2, 2):
        raise ValueError(
            "motion_panels: flow, maps and boxes must be of the same N >= 1 videos as frames, got "
            f"{len(frames)} frames, {len(flow)} flows, {len(maps)} maps and boxes {list(boxes.shape)}"
        )
    from matplotlib.patches import Rectangle

    largest = max(float(field.norm(dim=-3).max()) for field in flow)
    figure, axes = _figure(len(frames) + 1, 3, width=1.8, height=1.6)
    for n, frame in enumerate(frames):
        height, width = frame.shape[:2]
        first, second, third = axes[3 * n : 3 * n + 3]
        _show(first, frame)
        (top, bottom), (left, right) = boxes[n].sort(dim=-1).values.tolist()
        corner = (left * width - 0.5, top * height - 0.5)
        box = ((right - left) * width, (bottom - top) * height)
        first.add_patch(Rectangle(corner, *box, fill=False, edgecolor=_BOX, linewidth=1.5))
        _show(second, flow_colours(flow[n], largest))
        third.imshow(maps[n].detach().float().cpu().numpy(), cmap="inferno", vmin=0, extent=(0, width, height, 0))
        third.set_axis_off()
    for axis, title in zip(axes, ("frame and view", "flow", "motion map"), strict=False):
        axis.set_title(title, fontsize=8)
    side = torch.linspace(-1, 1, 101)
    wheel = torch.stack(torch.meshgrid(side, side, indexing="xy"))
    wheel[:, wheel.norm(dim=0) > 1] = 0
    _show(axes[-2], flow_colours(wheel, 1.0))
    axes[-2].set_xlabel(f"rim: {largest:.2f} pixels", fontsize=7)
    for axis in (axes[-3], axes[-1]):
        axis.set_axis_off()
    return _save(figure, file)


def retrieval_strips(
    queries: Sequence[tuple[Tensor, str]],
    neighbours: Sequence[Sequence[tuple[Tensor, str]]],
    file: str | os.PathLike,
) -> Path:
    """Draw each query and its nearest videos in order, right ones framed green, wrong ones red.

    Args:
        queries: N pairs of a frame (uint8 ``[H, W, 3]``, sizes may differ) and its class.
        neighbours: for each query its neighbours, nearest first, as such pairs.
        file: the PNG to write.
    """
    if not queries or len(queries) != len(neighbours):
        raise ValueError(
            f"retrieval_strips: one list of neighbours a query is needed, got {len(queries)} and {len(neighbours)}"
        )
    columns = 1 + max(len(row) for row in neighbours)
    figure, axes = _figure(len(queries), columns, width=1.5, height=1.75)
    for line, (query, row) in enumerate(zip(queries, neighbours, strict=True)):
        for column in range(columns):
            axis = axes[line * columns + column]
            if column > len(row):
                axis.axis("off")
                continue
            frame, label = query if column == 0 else row[column - 1]
            _check_frames("retrieval_strips", frame, 3)
            _show(axis, frame)
            right = label == query[1]
            color = _NEUTRAL if column == 0 else _RIGHT if right else _WRONG
            # A mark beside the colour: red and green look alike to one man in twelve.
            mark = "query: " if column == 0 else "✓ " if right else "✗ "
            axis.set_title(f"{mark}{label}", fontsize=8, color=color)
            for spine in axis.spines.values():
                spine.set(visible=True, color=color, linewidth=2.5)
    return _save(figure, file)


def _figure(lines: int, columns: int, *, width: float, height: float):
    """A figure of lines x columns panels of the given size in inches, and its axes as a flat list."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'motionops[train]'") from error
    # A Figure of its own, without pyplot: no display, no state shared with a user's own figures.
    figure = Figure(figsize=(width * columns, height * lines), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(lines, columns, squeeze=False).flat)


def _show(axis, frame: Tensor) -> None:
    axis.imshow(frame.cpu().numpy())
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def _check_frames(name: str, frames: Tensor, rank: int) -> None:
    axes = {3: "[H, W, 3]", 4: "[N, H, W, 3]", 5: "[B, T, H, W, 3]"}[rank]
    if frames.ndim != rank or frames.shape[-1] != 3 or frames.dtype != torch.uint8 or 0 in frames.shape:
        raise ValueError(f"{name}: frames must be uint8 {axes}, got {frames.dtype} {list(frames.shape)}")


def _save(figure, file: str | os.PathLike) -> Path:
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, so that a viewer never opens half a picture.
    part = file.with_name(f".{file.name}.part")
    figure.savefig(part, format="png")
    os.replace(part, file)
    return file
