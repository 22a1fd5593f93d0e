"""Runs side by side: their scores, and how far two runs on the same test videos differ for sure."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from motionops.errors import UserError
from motionops.evaluation.written.metrics_file import METRICS, PREDICTIONS

_RESAMPLES, _SEED = 10_000, 0


class Run(NamedTuple):
    """A run as its folder tells it: a name, metrics.json, and for each score which test videos were right."""

    name: str
    metrics: dict[str, Any]
    right: dict[str, dict[str, bool]]

    def score(self, name: str) -> tuple[float, float, float] | None:
        """Value and interval; None where the run has no such score."""
        interval = self.metrics["interval"].get(name)
        return None if interval is None else (self.metrics[name], *interval)


def read_run(path: str | os.PathLike) -> Run:
    """Read a run's folder, or its metrics.json.

    Raises:
        UserError: there is none, or it holds no scores.
    """
    file = Path(path)
    file = file / METRICS if file.is_dir() else file
    try:
        metrics = json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: there is no {METRICS}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from error
    if not isinstance(metrics, dict) or not metrics.get("interval"):
        raise UserError(f"{file}: holds no scores")
    return Run(str(path), metrics, _right(file.with_name(PREDICTIONS)))


def difference(first: Run, other: Run, score: str) -> tuple[float, float, float] | None:
    """``other`` minus ``first`` in per cent and its 95 % interval, paired: the same test videos are drawn for both.

    Two runs err on many of the same videos, so their difference is known better than their intervals suggest. None
    where they were not measured on the same videos, or do not say which they had right.
    """
    mine, theirs = first.right.get(score), other.right.get(score)
    if not mine or not theirs or mine.keys() != theirs.keys():
        return None
    gains = np.array([float(theirs[path]) - float(mine[path]) for path in mine])
    # Gains are -1, 0 or 1: a resample is a multinomial draw of their counts.
    counts = np.array([(gains == value).sum() for value in (-1, 0, 1)])
    draws = np.random.default_rng(_SEED).multinomial(len(gains), counts / len(gains), size=_RESAMPLES)
    low, high = np.percentile(100.0 * (draws[:, 2] - draws[:, 0]) / len(gains), [2.5, 97.5])
    return 100.0 * float(gains.mean()), float(low), float(high)


def score_names(runs: Sequence[Run]) -> list[str]:
    """The scores of all runs, each once, in the order in which they come."""
    return list(dict.fromkeys(name for run in runs for name in run.metrics["interval"]))


def format_comparison(runs: Sequence[Run]) -> str:
    """A table a score: value, interval, chance, and the difference to the first run."""
    width = max(12, *(len(run.name) for run in runs))
    lines = []
    for score in score_names(runs):
        lines.append(f"{score:<{width}}{'score':>8}{'95 % interval':>18}{'chance':>9}{'difference to the first':>30}")
        for run in runs:
            value = run.score(score)
            if value is None:
                lines.append(f"{run.name:<{width}}{'-':>8}")
                continue
            against = None if run is runs[0] else difference(runs[0], run, score)
            chance = run.metrics.get("chance_at", {}).get(score, float("nan"))
            lines.append(
                f"{run.name:<{width}}{value[0]:8.1f}{f'{value[1]:.1f} - {value[2]:.1f}':>18}{chance:9.1f}"
                + ("" if against is None else f"{f'{against[0]:+.1f} ({against[1]:+.1f} to {against[2]:+.1f})':>30}")
            )
        lines.append("")
    for run in runs:
        m = run.metrics
        lines.append(f"{run.name}: {m['protocol']}, {m['n_train']} training and {m['n_test']} test videos")
    return "\n".join(lines)


def _right(file: Path) -> dict[str, dict[str, bool]]:
    """score -> video -> right, from a predictions.csv; empty where there is none or it is no such table."""
    try:
        with open(file, newline="", encoding="utf-8", errors="surrogateescape") as stream:
            rows = list(csv.DictReader(stream))
    except OSError:
        return {}
    scores = [name for name in rows[0] if name.startswith(("R@", "top"))] if rows else []
    return {score: {row["path"]: row[score] == "1" for row in rows} for score in scores}
