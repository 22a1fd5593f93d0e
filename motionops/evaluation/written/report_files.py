"""The files that say how each class and each test video fared."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from motionops.evaluation.pictures import confusion_picture
from motionops.evaluation.protocols.classification import Classification
from motionops.evaluation.written.metrics_file import PREDICTIONS, write_rows


def write_classification(result: Classification, folder: str | os.PathLike) -> None:
    """Write ``predictions.csv``, ``classes.csv``, ``confusion.csv``, and with matplotlib ``confusion.png``."""
    folder = Path(folder)
    write_rows(result.predictions, folder / PREDICTIONS)
    write_rows(result.per_class, folder / "classes.csv")
    rows = zip(result.classes, result.confusion.tolist(), strict=True)
    named = [{"true \\ predicted": name, **dict(zip(result.classes, row, strict=True))} for name, row in rows]
    write_rows(named, folder / "confusion.csv")
    if find_spec("matplotlib") is not None:
        confusion_picture(result.confusion, result.classes, folder / "confusion.png")
