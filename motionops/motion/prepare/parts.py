"""A set that several machines prepare: each computes a part, into a place of its own beside the output.

Not into one file: SQLite's are for the processes of one machine, on a shared disk two machines can destroy them.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from motionops.errors import UserError

Item = TypeVar("Item")


class Part(NamedTuple):
    """One of several parts of a set of videos, counted from 1, as SLURM's arrays are."""

    number: int
    count: int

    @classmethod
    def read(cls, text: str) -> Part:
        """What --part says: "3/8". UserError where that is no part."""
        numbers = re.fullmatch(r"(\d+)/(\d+)", text)
        if numbers is None or not 1 <= int(numbers[1]) <= int(numbers[2]):
            raise UserError(f"--part: must be I/N with I from 1 to N, as 3/8, got {text!r}")
        return cls(int(numbers[1]), int(numbers[2]))

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Every N-th item: long and short videos, which often lie together, are in all parts."""
        return list(items[self.number - 1 :: self.count])

    def place(self, output: Path) -> Path:
        """Where this part of what becomes ``output`` is written."""
        if not output.name:
            raise UserError(f"--output: must have a name, to which that of the part is added, got {output}")
        return output.with_name(f"{output.name}.part-{self.number}-of-{self.count}")


def parts_of(output: Path) -> list[Path]:
    """The parts that lie beside ``output``. UserError where there are none, or not all of them."""
    name = re.compile(re.escape(output.name) + r"\.part-(\d+)-of-(\d+)")
    found = {}
    for path in output.parent.glob(f"{glob.escape(output.name)}.part-*-of-*"):
        if numbers := name.fullmatch(path.name):
            found[Part(int(numbers[1]), int(numbers[2]))] = path
    counts = sorted({part.count for part in found})
    if not counts:
        raise UserError(f"--output: there are no parts {output}.part-1-of-N; prepare --part makes them")
    if len(counts) > 1:
        raise UserError(f"--output: beside {output} lie parts of {counts[0]} and of {counts[1]}; delete one kind")
    missing = [str(number) for number in range(1, counts[0] + 1) if Part(number, counts[0]) not in found]
    if missing:
        raise UserError(f"--output: of {counts[0]} parts of {output} these are not there yet: {', '.join(missing)}")
    return [found[part] for part in sorted(found)]
