"""What a point of one view attends to in another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from motionops.evaluation.pictures.drawing import check_frames, colour_bar, cover, figure, save, show, written

_POINT = "#00e0ff"  # on frames of any colour, and on the maps beside


def point_attention(
    source: Tensor,
    points: Tensor,
    target: Tensor,
    weights: Tensor,
    file: str | os.PathLike,
    titles: Sequence[str] = (),
    *,
    title: str = "What a point attends to",
) -> Path:
    """Draw points and where they look: a line a point with the source frame, the target frame, and the attention on it.

    Args:
        source, target: uint8 ``[N, H, W, 3]``.
        points: ``[N, 2]``, (y, x) of each point as fractions of its source frame; a bright circle.
        weights: ``[N, h, w]``, at least 0; each line is scaled by its largest.
        file: the PNG to write.
        titles: N names for the lines.
        title: of the whole.

    Source: FIMA, appendix D.1 and figure 7.
    """
    for name, frames in (("source", source), ("target", target)):
        check_frames("point_attention", frames, 4)
        if len(frames) != len(source):
            raise ValueError(f"point_attention: {name} must be [N={len(source)}, H, W, 3], got {list(frames.shape)}")
    if points.shape != (len(source), 2) or weights.ndim != 3 or len(weights) != len(source):
        raise ValueError(
            f"point_attention: points must be [N={len(source)}, 2] and weights [N, h, w], got {list(points.shape)} and "
            f"{list(weights.shape)}"
        )
    from matplotlib.patches import Circle

    height, width = target.shape[1:3]
    large = torch.nn.functional.interpolate(
        weights[:, None].float().cpu(), size=(height, width), mode="bilinear", align_corners=False
    )[:, 0]
    large = large / large.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    fig, axes = figure(len(source), 3, width=1.7, height=1.7 * height / width + 0.2, title=title)
    for n in range(len(source)):
        first, second, third = axes[3 * n : 3 * n + 3]
        show(first, source[n])
        y, x = (points[n] * torch.tensor(source.shape[1:3])).tolist()
        radius = 0.05 * min(source.shape[1:3])
        first.add_patch(Circle((x - 0.5, y - 0.5), radius, fill=False, edgecolor=_POINT, linewidth=2))
        show(second, target[n])
        show(third, target[n])
        cover(third, large[n])
        if titles:
            first.set_title(written(titles[n], 1.7), fontsize=8)
    for axis, name in zip(axes[1:3], ("other clip", "attention"), strict=True):
        axis.set_title(name, fontsize=8)
    colour_bar(fig, axes, "attention, of the line's largest")
    return save(fig, file)
