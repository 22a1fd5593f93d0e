"""What a run logged, against its steps."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

from motionops.evaluation.pictures.drawing import figure, save


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
    fig, axes = figure(lines, columns, width=3.6, height=2.4)
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
    return save(fig, file)
