"""``evaluate.py compare A B ...``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from motionops.commandline import writable_folder
from motionops.errors import UserError
from motionops.evaluation.protocols.comparison import format_comparison, read_run, score_names


@dataclass
class Compare:
    """Lay the scores of several runs side by side, as a table and as a picture."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, each with its metrics.json."""
    output: Path = Path("runs/compare")
    """Folder for compare.png."""


def compare(config: Compare) -> None:
    if not config.runs:
        raise UserError("name the folders of at least one run")
    runs = [read_run(path) for path in dict.fromkeys(config.runs)]
    print(format_comparison(runs))
    from motionops.evaluation.pictures import score_bars

    scores = {name: [run.score(name) for run in runs] for name in score_names(runs)}
    chances = {name: run.metrics.get("chance_at", {}).get(name) for run in reversed(runs) for name in scores}
    known = {name: chance for name, chance in chances.items() if chance is not None}
    file = score_bars([run.name for run in runs], scores, writable_folder(config.output) / "compare.png", known)
    print(f"written: {file}")
