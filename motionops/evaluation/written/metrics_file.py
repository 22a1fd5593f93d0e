"""What an evaluation leaves in its folder: metrics.json, and CSV files of what was said of each video and class."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from motionops.files import replace_text
from motionops.video.checking import Skipped, once_each

METRICS = "metrics.json"
PREDICTIONS = "predictions.csv"


def write_metrics(metrics: dict, folder: str | os.PathLike) -> Path:
    """Write ``metrics.json`` into ``folder``: beside and renamed, so that a reader never sees half of it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / METRICS
    replace_text(file, json.dumps(metrics, indent=2) + "\n")
    return file


def write_rows(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write a CSV file with a header, whole or not at all; numbers that are no whole ones with two decimals."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{v:.2f}" if isinstance(v, float) else v for name, v in row.items()})
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_text(file, text.getvalue())


def notes(skipped: Iterable[Skipped], warnings: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The end of every metrics.json: what was skipped, what was warned of, how it was measured."""
    left_out = ("progress", "cache", "device", "over_ranks")  # where and how it ran changes no score
    return {
        **left_out_videos(skipped),
        "warnings": list(warnings),
        "settings": {name: plain(value) for name, value in settings.items() if name not in left_out},
    }


def left_out_videos(skipped: Iterable[Skipped]) -> dict[str, Any]:
    """What metrics.json says of videos that could not be used: how many, and each with its reason."""
    named = [video._asdict() for video in once_each(skipped)]
    return {"skipped": len(named), "skipped_videos": named}


def said_of_videos(metrics: Mapping[str, Any]) -> list[str]:
    """The last lines of a table for the terminal: how many videos and classes, and each that was left out."""
    counts = f"{metrics['n_test']} test videos, {metrics['n_train']} training videos, {metrics['classes']} classes"
    left_out = [f"skipped {Skipped(**video)}" for video in metrics["skipped_videos"]]
    return [f"{counts}, {metrics['skipped']} skipped", *left_out]


def plain(value: object) -> object:
    """A setting as JSON can hold it."""
    if isinstance(value, (Tensor, tuple, list)):
        return [float(x) for x in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
