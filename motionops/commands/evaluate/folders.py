"""Where a measurement writes: its folder, and the table of results beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from motionops.commandline import writable_folder
from motionops.commands.evaluate.flags import Measurement
from motionops.evaluation.written.results import read_results
from motionops.files import replace_text
from motionops.ranks import is_first
from motionops.training.output_folder import CONFIG, MARK, choose_folder


def require_writable(config: Measurement) -> None:
    """UserError where the measurement could not write what it found, or the table is none: now, not after hours."""
    writable_folder(config.output)
    table = results_file(config)
    writable_folder(table.parent, "--results")
    if table.exists():
        read_results(table)


def results_file(config: Measurement) -> Path:
    return config.results if config.results is not None else config.output.absolute().parent / "results.csv"


def with_own_folder(config: Measurement) -> Measurement:
    """A command that trains, with the folder that its run may write in (`choose_folder`)."""
    if not is_first() and not config.resume:
        return config  # the first process writes
    output = choose_folder(config.output, type(config).output, resume=config.resume, overwrite=config.overwrite)
    return replace(config, output=output)


def hold_runs(folder: Path) -> None:
    """Mark a folder as one that --overwrite may replace: the folders in it are runs."""
    replace_text(folder / CONFIG, f"{MARK}\n")
