"""What moves: flow as colours, motion maps, and the boxes that were chosen by them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from motionops.evaluation.pictures.drawing import HEAT, check_frames, colour_bar, figure, save, show, written

_BOX = "#ffd000"
# Of a moving picture, in pixels: a panel's height, the gap between panels, a line of text.
_SIDE, _GAP, _LINE = 128, 4, 14
_COLUMNS = ("frame", "flow", "motion map")


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
    frames: Sequence[Tensor],
    flow: Sequence[Tensor],
    maps: Sequence[Tensor],
    boxes: Tensor,
    file: str | os.PathLike,
    titles: Sequence[str] | None = None,
    *,
    quantity: str = "motion map: change of the flow per pixel",
) -> Path:
    """Draw what moves: a line a video with its frame and the chosen box, its flow, its motion map; a colour wheel last.

    Args:
        frames: N frames uint8 ``[H, W, 3]``, as a list, whose sizes may differ, or as one tensor ``[N, H, W, 3]``.
        flow: N of ``[2, h, w]``, in pixels, as a list or one tensor; of any resolution.
        maps: N motion maps ``[h, w]``, at least 0, as a list or one tensor; of any resolution.
        boxes: ``[N, 2, 2]``, rows (y, x), columns (start, end), fractions of the picture; start > end is mirrored.
        file: the PNG to write. The wheel's rim is the longest vector of all, in pixels.
        titles: N names, below the frames.
        quantity: what the maps are, for the colour bar: all have one scale.

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
    strongest = max(max(float(field.max()) for field in maps), torch.finfo(torch.float32).tiny)
    fig, axes = figure(len(frames) + 1, 3, width=1.8, height=1.6, title="What moves")
    for n, frame in enumerate(frames):
        height, width = frame.shape[:2]
        first, second, third = axes[3 * n : 3 * n + 3]
        show(first, frame)
        (top, bottom), (left, right) = boxes[n].sort(dim=-1).values.tolist()
        corner = (left * width - 0.5, top * height - 0.5)
        box = ((right - left) * width, (bottom - top) * height)
        first.add_patch(Rectangle(corner, *box, fill=False, edgecolor=_BOX, linewidth=1.5))
        if titles is not None:
            first.set_xlabel(written(titles[n], 1.8, size=7.0), fontsize=7, labelpad=1)
        show(second, flow_colours(flow[n], largest))
        field = maps[n].detach().float().cpu().numpy()
        third.imshow(field, cmap=HEAT, vmin=0, vmax=strongest, extent=(0, width, height, 0))
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
    colour_bar(fig, axes, quantity, high=strongest)
    return save(fig, file)


def moving_picture(
    frames: Tensor,
    flow: Tensor,
    maps: Tensor,
    file: str | os.PathLike,
    titles: Sequence[str],
    *,
    numbers: Tensor | None = None,
    seconds: float = 0.2,
) -> Path:
    """Draw clips as one GIF: a line a clip with its frame, its flow and its motion map, which go on together.

    Args:
        frames: uint8 ``[N, T, H, W, 3]``.
        flow: ``[N, T, 2, h, w]`` in pixels; one scale for all, as in :func:`motion_panels`.
        maps: ``[N, T, h, w]``, at least 0; one scale for all.
        file: the GIF to write.
        titles: N names of the lines.
        numbers: ``[T]`` or ``[N, T]``, of the frames; by default from 0.
        seconds: of each frame.
    """
    check_frames("moving_picture", frames, 5)
    count, length, height, width = frames.shape[:4]
    if flow.shape[:3] != (count, length, 2) or maps.shape[:2] != (count, length) or len(titles) != count:
        raise ValueError(
            f"moving_picture: flow must be [N={count}, T={length}, 2, h, w], maps [N, T, h, w] with N titles, got "
            f"{list(flow.shape)}, {list(maps.shape)} and {len(titles)} titles"
        )
    try:
        from matplotlib import colormaps
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'motionops[train]'") from error
    numbers = torch.arange(length) if numbers is None else torch.as_tensor(numbers)
    numbers = numbers.expand(count, length)
    strongest = maps.float().amax().clamp_min(torch.finfo(torch.float32).tiny)
    heat = torch.from_numpy(colormaps[HEAT]((maps.float() / strongest).cpu().numpy())[..., :3])
    coloured = flow_colours(flow)
    side = (round(_SIDE * width / height), _SIDE)
    step = (side[0] + _GAP, side[1] + _LINE + _GAP)
    pages = []
    for t in range(length):
        page = Image.new("RGB", (3 * step[0] - _GAP, count * step[1] + _LINE), "white")
        draw = ImageDraw.Draw(page)
        for column, name in enumerate(_COLUMNS):
            draw.text((column * step[0] + 2, 0), name, fill="black")
        for n, title in enumerate(titles):
            panels = (frames[n, t], coloured[n, t], (255 * heat[n, t]).round().to(torch.uint8))
            top = _LINE + n * step[1]
            text = f"{' '.join(title.split())}, frame {int(numbers[n, t])}"
            draw.text((2, top), text.encode("latin-1", "replace").decode("latin-1"), fill="black")
            for column, panel in enumerate(panels):
                image = Image.fromarray(panel.cpu().numpy()).resize(side, Image.Resampling.BILINEAR)
                page.paste(image, (column * step[0], top + _LINE))
        pages.append(page)
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    pages[0].save(part, format="GIF", save_all=True, append_images=pages[1:], duration=round(1000 * seconds), loop=0)
    os.replace(part, file)
    return file


def motion_inputs(frames: Tensor, following: Tensor, flow: Tensor, edges: Tensor, file: str | os.PathLike) -> Path:
    """Draw what a motion pathway could be given: a line a video with its frame, the difference to the next, the flow
    between them and the flow's edges (MoDist, figure 2).

    Args:
        frames, following: uint8 ``[N, H, W, 3]``.
        flow: ``[N, 2, h, w]``, in pixels.
        edges: ``[N, h, w]``, at least 0.
        file: the PNG to write.

    Raises:
        ValueError: frames that are not uint8 ``[N, H, W, 3]``, or not the same number of each.
    """
    for each in (frames, following):
        check_frames("motion_inputs", each, 4)
    if not len(frames) or not len(frames) == len(following) == len(flow) == len(edges):
        raise ValueError(
            "motion_inputs: frames, following, flow and edges must be of the same N >= 1 videos, got "
            f"{len(frames)}, {len(following)}, {len(flow)} and {len(edges)}"
        )
    fig, axes = figure(len(frames), 4, width=1.4, height=1.4)
    for n in range(len(frames)):
        first, second, third, fourth = axes[4 * n : 4 * n + 4]
        show(first, frames[n])
        # Half grey where nothing changes, as networks see it (FIMA, MoDist).
        show(second, ((following[n].float() - frames[n].float() + 255) / 2).round().to(torch.uint8))
        show(third, flow_colours(flow[n]))
        fourth.imshow(edges[n].detach().float().cpu().numpy(), cmap=HEAT, vmin=0)
        fourth.set_axis_off()
    for axis, title in zip(axes, ("frame", "difference", "flow", "flow edges"), strict=False):
        axis.set_title(title, fontsize=8)
    return save(fig, file)
