"""The tables of a method's paper, as data: motionops/methods/<method>/tables.yaml.

A table says once what its rows share, and each row what differs. ``--row TABLE/ROW`` takes a row's flags as defaults,
and docs/reproduce.md is written from the same files (build_support/reproduce_page.py).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import yaml

from motionops.errors import UserError

METHODS = Path(__file__).resolve().parent.parent / "methods"
NAME = "tables.yaml"


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    name: str
    flags: str = ""
    """What is added to the table's command, or takes the place of what is there."""
    paper: list[str] = field(default_factory=list)
    """The paper's numbers as it prints them, one for each of the table's columns."""
    here: str = ""
    """What was run with this code, or what is missing for it."""


@dataclass(frozen=True)
class Table:
    """A table of the paper, its rows by what is typed for them."""

    base: str
    """The flags of a row that names none. A word before them is a command of trainers/evaluate.py."""
    rows: dict[str, Row]
    title: str = ""
    words: str = ""
    columns: list[str] = field(default_factory=list)
    after: str = ""


@dataclass(frozen=True)
class Paper:
    """What a tables.yaml holds."""

    method: str
    name: str
    words: str
    videos: dict[str, str]
    """What goes with a preset: folder and list."""
    lists: dict[str, str]
    """What goes with a folder that is measured on: training and test list."""
    tables: dict[str, Table]
    choices: str = ""
    """What the paper leaves open, and what was chosen."""

    def command(self, table: str, row: str) -> list[str]:
        """The whole command of a row, word by word."""
        own, flags = _split(self.tables[table].base)
        other, changed = _split(self.tables[table].rows[row].flags)
        if other and not own:
            flags = {}  # a row that is measured in a table of trainings shares nothing with the others
        flags |= changed
        measured = other or own
        asked, implied = ("--data", self.lists) if measured else ("--preset", self.videos)
        (value,) = flags[asked]
        flags = {asked: [value], **_split(implied[value])[1], **flags}
        program = "evaluate" if measured else self.method
        return ["python", f"trainers/{program}.py", *measured, *(word for f, v in flags.items() for word in (f, *v))]


def _split(command: str) -> tuple[list[str], dict[str, list[str]]]:
    """The words before a command's flags, and the flags with their values."""
    words: list[str] = []
    flags: dict[str, list[str]] = {}
    current = words
    for word in shlex.split(command):
        if word.startswith("--"):
            current = flags[word] = []
        else:
            current.append(word)
    return words, flags


def read_paper(file: Path) -> Paper:
    """The tables of a file. Each value stays the text that is written there: 90.40 is not 90.4."""
    held = yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader)
    tables = {}
    for key, table in held.pop("tables").items():
        rows = {each: Row(**{"name": each, **row}) for each, row in table.pop("rows").items()}
        tables[key] = Table(rows=rows, **table)
    return Paper(method=file.parent.name, tables=tables, **held)


def rows_of(method: str) -> Callable[[str], list[str]]:
    """What ``--row`` of a method stands for: TABLE/ROW -> its flags; UserError where there is no such row."""
    return partial(_flags_of, METHODS / method / NAME)


def _flags_of(file: Path, name: str) -> list[str]:
    if not file.exists():
        raise UserError(f"--row: {file.parent.name} has no tables of a paper, got {name!r}")
    paper = read_paper(file)
    table, _, row = name.partition("/")
    if table not in paper.tables:
        raise UserError(f"--row: unknown table {table!r}; give TABLE/ROW of one of: {', '.join(paper.tables)}")
    rows = paper.tables[table].rows
    if row not in rows:
        said = f"unknown row {name!r}" if row else f"table {table} has several rows"
        raise UserError(f"--row: {said}; choose one of: {', '.join(f'{table}/{each}' for each in rows)}")
    _, program, *flags = command = paper.command(table, row)
    if program == "trainers/evaluate.py":
        raise UserError(f"--row {name}: this row measures a run and trains none: {shlex.join(command)}")
    return flags
