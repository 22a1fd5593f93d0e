"""The folder of a run: config.yaml, metrics.csv, TensorBoard events, report/, metrics.json."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import yaml

from motionops.files import replace_text
from motionops.training.lightning import Logger, rank_zero_only
from motionops.training.output_folder import CONFIG, MARK, remove_run

METRICS_CSV, METRICS_JSON = "metrics.csv", "metrics.json"
TENSORBOARD, REPORT = "tensorboard", "report"


def plain(config: Any) -> dict[str, Any]:
    """A config dataclass as what YAML and checkpoints hold: numbers, text, lists."""

    def value(item: Any) -> Any:
        if isinstance(item, Path):
            return str(item)
        return [value(part) for part in item] if isinstance(item, (tuple, list)) else item

    return {field.name: value(getattr(config, field.name)) for field in dataclasses.fields(config)}


def start_folder(folder: Path, config: Any, resume: bool) -> None:
    """Write config.yaml; without `resume`, first remove what an earlier run wrote there."""
    if not resume:
        remove_run(folder)
    replace_text(folder / CONFIG, f"{MARK}\n{yaml.safe_dump(plain(config), sort_keys=False)}")


class MetricsFile(Logger):
    """metrics.csv: a line every few steps, readable at any moment of the run.

    A resumed run drops the lines behind the step that it continues from, then appends: the file is that of an
    uninterrupted run.

    Args:
        path: the file.
        first_step: steps that are already done; 0 starts a new file.
    """

    def __init__(self, path: Path, first_step: int = 0) -> None:
        super().__init__()
        self.path = path
        self._columns: list[str] = []
        if first_step and path.exists():
            with open(path, newline="") as file:
                reader = csv.DictReader(file)
                rows = []
                for row in reader:
                    # A killed run may have left half a line.
                    with contextlib.suppress(TypeError, ValueError):
                        if int(row["step"]) <= first_step and None not in row and None not in row.values():
                            rows.append(row)
                self._columns = list(reader.fieldnames or [])
            self._write(rows)
        else:
            path.unlink(missing_ok=True)

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": step, **metrics}
        columns = [*self._columns, *(name for name in row if name not in self._columns)]
        if columns != self._columns:
            rows = list(csv.DictReader(io.StringIO(self.path.read_text()))) if self.path.exists() else []
            self._columns = columns
            self._write(rows)
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(row)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        replace_text(self.path, text.getvalue())
