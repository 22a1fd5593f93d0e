"""The folder that a run writes in: a free one, held by one run at a time, never emptied of what others put there."""

from __future__ import annotations

import csv
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from motionops.commandline import say
from motionops.errors import UserError

CONFIG = "config.yaml"
# The first line of a run's config.yaml: in this folder a run may replace what runs write.
MARK = "# a run of motionops: what runs write in this folder is replaced with --overwrite"
# What runs write, of methods and of supervised trainings; nothing else is ever removed.
OWN = (
    *("last.ckpt", ".last.ckpt.partial", "previous.ckpt", ".previous.ckpt.partial"),
    *(CONFIG, "metrics.csv", "metrics.json", "videos.jsonl"),
    *("backbone.safetensors", "image_backbone.safetensors", "motion_backbone.safetensors", "classifier.pt"),
    "backbone-epoch-*.safetensors",
    *("predictions.csv", "classes.csv", "confusion.csv", "confusion.png"),
    *("report/*.png", "report/report.html", "report/profile.json", "report/trace.json.gz"),
    *("tensorboard/events.out.tfevents.*", "tensorboard/hparams.yaml"),
)


def choose_folder(output: Path, default: Path, *, resume: bool, overwrite: bool) -> Path:
    """The folder of a run: `output`, or beside a default that is taken the next one, or the newest to go on with.

    Raises:
        UserError: a folder that was named holds a run, or other files, and no flag says what is to become of it.
    """
    if resume and overwrite:
        raise UserError("--resume, --overwrite: one goes on with the run in --output, the other replaces it")
    if overwrite and not _is_empty(output) and not _is_marked(output):
        raise UserError(f"--overwrite: {output} holds no run but {_a_file(output)}; name another folder")
    if output == default and not overwrite:
        return _newest(default) if resume else _next_free(default)
    if resume and not _is_empty(output) and not _holds_a_run(output):
        raise UserError(f"--resume: {output} holds no run but {_a_file(output)}; name the run's folder")
    if not (resume or overwrite) and not _is_empty(output):
        if _holds_a_run(output):
            raise UserError(f"--output: {output} holds {_named(output)}; --resume, --overwrite or another folder")
        raise UserError(f"--output: {output} holds {_a_file(output)}, which no run wrote; name another folder")
    return output


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder is one run's while the context lasts. UserError where another one writes in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--output: another run is writing in {folder}; name another folder") from None
        except OSError:
            pass  # a file system without locks: nothing can be told there
        _held.add(descriptor)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


_held: set[int] = set()


def _leave_to_the_parent() -> None:
    """A reader that outlives a killed run for some seconds does not hold its folder."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_the_parent)


def remove_run(folder: Path) -> None:
    """Remove what a run wrote in a folder of its own, and the folders in it that are empty then."""
    for pattern in OWN:
        for path in folder.glob(pattern):
            path.unlink()
    for name in ("report", "tensorboard"):
        with suppress(OSError):  # not there, or somebody put something in
            (folder / name).rmdir()


def _is_empty(folder: Path) -> bool:
    return not folder.is_dir() or not any(folder.iterdir())


def _is_marked(folder: Path) -> bool:
    with suppress(OSError), open(folder / CONFIG) as file:
        return file.readline().rstrip() == MARK
    return False


def _holds_a_run(folder: Path) -> bool:
    """Also one that was killed before its first last.ckpt."""
    return (folder / "last.ckpt").exists() or _is_marked(folder)


def _a_file(folder: Path) -> str:
    return min(path.name for path in folder.iterdir())


def _named(folder: Path) -> str:
    """A run by the steps that it has logged."""
    steps = []
    with suppress(OSError, KeyError, ValueError), open(folder / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            steps.append(int(row["step"]))
    return f"a run of {steps[-1]} steps" if steps else "a run"


def _beside(default: Path) -> Iterator[Path]:
    """The default and those that follow it: runs/fima, runs/fima-2, runs/fima-3, ..."""
    yield default
    number = 2
    while True:
        yield default.with_name(f"{default.name}-{number}")
        number += 1


def _next_free(default: Path) -> Path:
    chosen = next(folder for folder in _beside(default) if _is_empty(folder))
    if chosen != default:
        what = _named(default) if _holds_a_run(default) else _a_file(default)
        say(f"--output: {default} holds {what}; this run is written to {chosen}")
    return chosen


def _newest(default: Path) -> Path:
    numbered = re.compile(rf"{re.escape(default.name)}(-[0-9]+)?")
    runs = [folder for folder in default.parent.glob(f"{default.name}*") if numbered.fullmatch(folder.name)]
    runs = [folder for folder in runs if _holds_a_run(folder)]
    if not runs:
        return default
    newest = max(runs, key=lambda folder: max(path.stat().st_mtime for path in folder.iterdir()))
    say(f"--resume: going on with {newest}, {_named(newest)}")
    return newest
