"""results.csv: one row a run, of all evaluations of a folder of runs, so that they can be laid side by side."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motionops.errors import UserError
from motionops.files import replace_text

# The columns of a new file, in this order; others that a run has come behind them.
COLUMNS = (
    *("time", "protocol", "paper", "backbone", "fingerprint", "train", "test", "n_train", "n_test", "classes"),
    *("R@1", "R@5", "R@10", "R@20", "top1", "top5", "mean_class", "low", "high", "chance", "majority"),
    *("share", "clips", "crops", "frames", "stride", "size", "crop", "seed", "output"),
)


def append_result(row: Mapping[str, Any], file: str | os.PathLike, *, twice: bool = True) -> None:
    """Append a row; several runs may do so at once, and a reader never sees half of one.

    Args:
        row: by column. A column that the file lacks is added to it, for all rows.
        file: made with its folder where it is not there.
        twice: append it although the file has the same row, but for its time.

    Raises:
        UserError: the file is no such table.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # the folder, since the file may be replaced
        columns, rows = read_results(file) if file.exists() else (list(COLUMNS), [])
        if not twice and any(_same(row, other) for other in rows):
            return
        missing = [name for name in row if name not in columns]
        ends_whole = file.exists() and file.stat().st_size and file.read_bytes().endswith(b"\n")
        if missing or not ends_whole:
            columns += missing
            replace_text(file, _lines(columns, [*rows, row], header=True))
        else:
            line = _lines(columns, [row], header=False)
            with open(file, "ab", buffering=0) as stream:
                stream.write(
                    line.encode(errors="surrogateescape")
                )  # one call: a cut leaves no half of it behind a sound line
    finally:
        os.close(folder)


def read_results(file: str | os.PathLike) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a results.csv; a last row that was cut is left out.

    Raises:
        UserError: it cannot be read, or is no such table.
    """
    try:
        with open(file, newline="", encoding="utf-8", errors="surrogateescape") as stream:
            reader = csv.DictReader(stream)
            columns = list(reader.fieldnames or [])
            rows = [row for row in reader if None not in row and None not in row.values()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read ({error})") from error
    if "protocol" not in columns:
        raise UserError(f"{file}: is no table of results (it has no column 'protocol')")
    return columns, rows


def _same(row: Mapping[str, Any], other: Mapping[str, str]) -> bool:
    names = (row.keys() | other.keys()) - {"time"}
    return all(_text(row.get(name, "")) == other.get(name, "") for name in names)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _lines(columns: list[str], rows: list[Mapping[str, Any]], header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    for row in rows:
        writer.writerow({name: _text(value) for name, value in row.items()})
    return text.getvalue()
