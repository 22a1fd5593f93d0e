"""Figures without a display: panels, frames in them, and the file that they become."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

DOTS_PER_INCH = 100


def figure(lines: int, columns: int, *, width: float, height: float):
    """A figure of lines x columns panels of the given size in inches, and its axes as a flat list."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'motionops[train]'") from error
    # A Figure of its own, without pyplot: no display, no state shared with a user's own figures.
    made = Figure(figsize=(width * columns, height * lines), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(made)
    return made, list(made.subplots(lines, columns, squeeze=False).flat)


def show(axis, frame: Tensor) -> None:
    axis.imshow(frame.cpu().numpy())
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def check_frames(name: str, frames: Tensor, rank: int) -> None:
    axes = {3: "[H, W, 3]", 4: "[N, H, W, 3]", 5: "[B, T, H, W, 3]"}[rank]
    if frames.ndim != rank or frames.shape[-1] != 3 or frames.dtype != torch.uint8 or 0 in frames.shape:
        raise ValueError(f"{name}: frames must be uint8 {axes}, got {frames.dtype} {list(frames.shape)}")


def save(figure, file: str | os.PathLike) -> Path:
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, so that a viewer never opens half a picture.
    part = file.with_name(f".{file.name}.part")
    figure.savefig(part, format="png")
    os.replace(part, file)
    return file
