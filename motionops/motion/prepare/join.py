"""Several machines' parts as one: ``motionops prepare join --output PLACE``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from motionops.errors import UserError
from motionops.motion.edges_folder import EDGES, shard_files
from motionops.motion.motion_file import MOTION
from motionops.motion.prepare import flow, reencode
from motionops.motion.prepare.parts import parts_of
from motionops.motion.prepared_file import Kind, PreparedWriter, file_settings
from motionops.video.known_counts import add_counts, holds_counts
from motionops.video.progress import with_progress

# Of commands whose parts write into one folder: which videos each has done.
RECORDS = {reencode.RECORD: reencode.COPIES, flow.RECORD: flow.FLOW}


@dataclass
class JoinConfig:
    """Join what the parts of ``prepare count``, ``motion``, ``flow``, ``flow-edges`` or ``reencode`` wrote."""

    output: Path
    """What the parts were given as --output. What is there already is continued; the parts stay."""


def join(output: Path, *, progress: bool = True) -> int:
    """Gather the videos of all parts that lie beside ``output`` (``reencode`` and ``flow``: of the records in it).

    A killed run is continued by the next one.

    Returns:
        How many videos were added.

    Raises:
        UserError: parts that are not there, or were made with different settings.
    """
    for record, kind in RECORDS.items():
        if output.is_dir() and any(output.glob(f"{record}.part-*")):
            return _join_files(parts_of(output / record), output / record, kind, progress)
    parts = parts_of(output)
    if all(map(holds_counts, parts)):
        return with_the_bar(parts, output, partial(add_counts, output), progress)
    if not all(part.is_dir() for part in parts):
        return _join_files(parts, output, MOTION, progress)
    names = [[file.name for file in shard_files(part)] for part in parts]
    if not names[0] or any(others != names[0] for others in names):
        raise UserError(f"--output: the parts of {output} have different shards; all need the same --shards")
    return sum(_join_files([part / name for part in parts], output / name, EDGES, progress) for name in names[0])


def _join_files(parts: list[Path], output: Path, kind: Kind, progress: bool) -> int:
    writer = PreparedWriter(output, kind, file_settings(parts[0], kind))
    try:
        return with_the_bar(parts, output, writer.take, progress)
    finally:
        writer.close()


def with_the_bar(parts: list[Path], output: Path, take: Callable[[Path], int], progress: bool) -> int:
    """How many videos were taken of all parts."""
    return sum(take(part) for part in with_progress(parts, len(parts), f"joining {output.name}", progress))


def main(config: JoinConfig) -> int:
    """Join the parts, and say what there is."""
    added = join(config.output)
    print(f"{config.output}: {added} videos added; the parts beside it may be deleted", file=sys.stderr)
    return 0
