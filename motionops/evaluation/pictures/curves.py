"""What a run logged, against its steps."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

from motionops.evaluation.pictures.drawing import figure, save, written

# What columns are, in words; the terms of a loss share a panel.
_TERM, _TERMS = "loss_", "terms of the loss"
_NAMES = {
    "loss": "loss, the weighted sum of its terms",
    "accuracy": "share of queries whose key is first",
    "learning_rate": "learning rate",
    "clips_per_second": "clips per second",
    "waiting": "share of time spent waiting for data",
    "R@1": "R@1 of held-out videos, per cent",
    "kNN": "kNN of held-out videos, per cent",
}
_FROM_ZERO = ("clips_per_second", "waiting")
_POINTS = 12  # below which each has a mark


def training_curves(metrics: str | os.PathLike, file: str | os.PathLike) -> Path:
    """Draw every column of a run's ``metrics.csv`` against the step, one panel each; the terms of the loss share one.

    Args:
        metrics: CSV with a header and a ``step`` column; a row need not fill all columns. Values per step and
            means per epoch of one quantity (``loss_step``, ``loss_epoch``) share a panel too.
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
            panel = _TERMS if quantity.startswith(_TERM) else quantity
            steps, values = panels.setdefault(panel, {}).setdefault(column, ([], []))
            steps.append(float(row["step"]))
            values.append(value)
    if not panels:
        raise ValueError(f"training_curves: {metrics} holds no finite value")

    from matplotlib.ticker import MaxNLocator

    columns = min(3, len(panels))
    lines = math.ceil(len(panels) / columns)
    fig, axes = figure(lines, columns, width=3.6, height=2.4, title="What the training logged")
    order = sorted(panels, key=lambda name: (name != "loss", name != _TERMS, name))
    for axis, quantity in zip(axes, order, strict=False):
        curves = panels[quantity]
        for number, (column, (steps, values)) in enumerate(curves.items()):
            per_epoch = column.endswith("_epoch")
            alone = quantity == _TERMS or len(curves) == 1
            # A thin line for the noisy values of single steps, a strong one for means.
            axis.plot(
                steps,
                values,
                color=f"C{number}" if quantity == _TERMS else "#1f4e79",
                linewidth=1.5 if per_epoch or alone else 0.7,
                alpha=1.0 if per_epoch or alone else 0.5,
                marker="." if len(values) < _POINTS else None,
                label=written(column.removeprefix(_TERM)),
            )
        if quantity == _TERMS:
            axis.legend(fontsize=7, frameon=False)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if quantity in _FROM_ZERO:
            highest = max(max(values) for _, values in curves.values())
            axis.set_ylim(0, 1.05 * highest or 1)
        axis.set_title(_NAMES.get(quantity, quantity.replace("_", " ")), fontsize=8)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
    for axis in axes[len(panels) :]:
        axis.axis("off")
    return save(fig, file)
