"""Scores with their intervals: over a quantity, or of runs side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from motionops.evaluation.pictures.drawing import figure, save, written

_LINE, _CHANCE = "#1f4e79", "#c0392b"
_MAGNITUDE = 20  # of quantities, from which they are told apart on a logarithmic axis alone


def score_curve(
    points: Sequence[tuple[float, float, float, float]],
    file: str | os.PathLike,
    *,
    x: str,
    y: str,
    chance: float | None = None,
) -> Path:
    """Draw scores over a quantity.

    Args:
        points: (quantity, score, lower end, upper end of its interval), at least one; in per cent.
        file: the PNG to write.
        x, y: names of the quantity and the score.
        chance: a line to compare with.
    """
    if not points:
        raise ValueError("score_curve: points must hold at least one, got none")
    fig, (axis,) = figure(1, 1, width=5, height=3.4, title=f"{y} over {x}, with 95 % intervals")
    places, scores, low, high = zip(*sorted(points), strict=True)
    errors = [[s - a for s, a in zip(scores, low, strict=True)], [b - s for s, b in zip(scores, high, strict=True)]]
    axis.errorbar(places, scores, yerr=errors, color=_LINE, marker="o", markersize=4, capsize=3, linewidth=1.5)
    if chance is not None:
        axis.axhline(chance, color=_CHANCE, linewidth=1, linestyle="--", label=f"chance {chance:.1f}")
        axis.legend(fontsize=8, loc="lower right")
    if places[0] > 0 and places[-1] / places[0] >= _MAGNITUDE:
        axis.set_xscale("log")
        axis.set_xticks(places, [f"{place:g}" for place in places])
        axis.minorticks_off()
    _finish(axis, x, y)
    return save(fig, file)


def score_bars(
    runs: Sequence[str],
    scores: Mapping[str, Sequence[tuple[float, float, float] | None]],
    file: str | os.PathLike,
    chances: Mapping[str, float] | None = None,
) -> Path:
    """Draw the scores of several runs side by side, with their intervals: one panel a score.

    Args:
        runs: names.
        scores: for each score a (value, lower end, upper end) of each run, None where a run has none; in per cent.
        file: the PNG to write.
        chances: for each score a line to compare with.
    """
    if not runs or not scores or any(len(values) != len(runs) for values in scores.values()):
        raise ValueError(f"score_bars: scores must hold one value of each of {len(runs)} runs for at least one score")
    fig, axes = figure(len(scores), 1, width=6.4, height=0.7 + 0.34 * len(runs))
    for axis, (name, values) in zip(axes, scores.items(), strict=True):
        for place, value in enumerate(values):
            if value is None:
                axis.text(1, place, "not measured", va="center", fontsize=7, color="#666666")
                continue
            score, low, high = value
            axis.barh(place, score, color=_LINE, alpha=0.75, height=0.6)
            axis.errorbar(score, place, xerr=[[score - low], [high - score]], color="black", capsize=3, linewidth=1)
            axis.text(min(high + 1, 101), place, f"{score:.1f}", va="center", fontsize=8)
        if chances and name in chances:
            axis.axvline(chances[name], color=_CHANCE, linewidth=1, linestyle="--")
        axis.set_yticks(range(len(runs)), [written(run) for run in runs], fontsize=8)
        axis.set_ylim(len(runs) - 0.5, -0.5)
        axis.set_xlim(0, 108)
        axis.tick_params(axis="x", labelsize=7)
        axis.set_title(f"{name} (per cent; bars are 95 % intervals, the dashed line is chance)", fontsize=8)
    return save(fig, file)


def _finish(axis, x: str, y: str) -> None:
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)
    axis.set_ylim(0, 102)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.25)
