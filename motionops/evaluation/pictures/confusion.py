"""Which class was taken for which."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from motionops.evaluation.pictures.drawing import figure, save, written

_NAMED = 60  # classes up to which each gets its name, and
_COUNTED = 20  # its counts are written


def confusion_picture(confusion: Tensor, classes: Sequence[str], file: str | os.PathLike) -> Path:
    """Draw a confusion matrix: a line a true class, as shares of its videos; the counts are written in small ones.

    Args:
        confusion: ``[K, K]`` counts, videos of class i that were taken for class j.
        classes: K names.
        file: the PNG to write.
    """
    count = len(classes)
    if confusion.shape != (count, count) or not count:
        raise ValueError(f"confusion_picture: confusion must be [K={count}, K={count}], got {list(confusion.shape)}")
    side = min(max(3.2, 0.34 * count), 16.0)
    fig, (axis,) = figure(1, 1, width=side + 0.9, height=side, title="Confusions, as shares of each true class")
    shares = confusion.double() / confusion.sum(dim=1, keepdim=True).clamp_min(1)
    image = axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axis.set_xlabel("predicted", fontsize=8)
    axis.set_ylabel("true", fontsize=8)
    if count <= _NAMED:
        classes = [written(name) for name in classes]
        size = 8 if count <= _COUNTED else 6
        axis.set_xticks(range(count), classes, rotation=90, fontsize=size)
        axis.set_yticks(range(count), classes, fontsize=size)
    if count <= _COUNTED:
        for row in range(count):
            for column in range(count):
                if confusion[row, column]:
                    colour = "white" if shares[row, column] > 0.5 else "black"
                    text = str(int(confusion[row, column]))
                    axis.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    bar = fig.colorbar(image, ax=axis, fraction=0.04, pad=0.02)
    bar.set_label("share of the true class", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    return save(fig, file)
