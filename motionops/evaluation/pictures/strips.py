"""Queries and the videos that were found for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from motionops.evaluation.pictures.drawing import check_frames, figure, save, show, written

_RIGHT, _WRONG, _NEUTRAL = "#1a7f37", "#c0392b", "#444444"
_WIDTH = 1.5  # of a panel, in inches
_TITLE = "Test videos, and their nearest training videos"


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
    fig, axes = figure(len(queries), columns, width=_WIDTH, height=1.75, title=_TITLE)
    for line, (query, row) in enumerate(zip(queries, neighbours, strict=True)):
        for column in range(columns):
            axis = axes[line * columns + column]
            if column > len(row):
                axis.axis("off")
                continue
            frame, label = query if column == 0 else row[column - 1]
            check_frames("retrieval_strips", frame, 3)
            show(axis, frame)
            right = label == query[1]
            color = _NEUTRAL if column == 0 else _RIGHT if right else _WRONG
            # A mark beside the colour: red and green look alike to one man in twelve.
            mark = "query: " if column == 0 else "✓ " if right else "✗ "
            axis.set_title(written(f"{mark}{label}", _WIDTH), fontsize=8, color=color)
            for spine in axis.spines.values():
                spine.set(visible=True, color=color, linewidth=2.5)
    return save(fig, file)
