"""Flags that know their range: what a configuration's field may hold is said beside it, and checked in one place.

A field says it in its annotation, ``momentum: Annotated[float, Within(0, 1)] = 0.99``; FREE marks those that may differ
between a run and its resumption, LOCAL those that may differ between its processes.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from motionops.commandline import flag
from motionops.errors import UserError

_INFINITY = float("inf")


@dataclass(frozen=True)
class Range:
    """Numbers between two bounds, and the words that say which; of a tuple, each value lies in it."""

    words: str
    low: float = -_INFINITY
    high: float = _INFINITY
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number lies in the range; NaN lies in none."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below


class Free:
    """Marks a flag that changes where and how far a run goes, not what it learns from what."""


class Local:
    """Marks a flag that may differ between the processes of a run: where their files are, how each reads them."""


@dataclass(frozen=True)
class Only:
    """Marks a flag that says something only where others are set so; `words` say how."""

    words: str
    holds: Callable[[Any], bool]


FREE, LOCAL = Free(), Local()
POSITIVE = Range("must be positive", low=0, open_low=True, open_high=True)
NOT_NEGATIVE = Range("must not be negative", low=0, open_high=True)
SHARE = Range("must be in (0, 1)", low=0, high=1, open_low=True, open_high=True)


def AtLeast(low: int) -> Range:
    return Range(f"must be at least {low}", low=low)


def AtMost(high: int) -> Range:
    return Range(f"must be at most {high}", high=high)


def Within(low: float, high: float) -> Range:
    return Range(f"must be in [{low}, {high}]", low, high)


def Below(low: float, high: float) -> Range:
    return Range(f"must be in [{low}, {high})", low, high, open_high=True)


def Above(low: float, high: float) -> Range:
    return Range(f"must be in ({low}, {high}]", low, high, open_low=True)


def check_ranges(config: Any) -> None:
    """UserError for the first field, in their order, with a number out of its range; None is in every range."""
    for name, marks in _marks(type(config)).items():
        value = getattr(config, name)
        values = value if isinstance(value, tuple) else (value,)
        for mark in marks:
            if isinstance(mark, Range) and not all(each is None or mark.holds(each) for each in values):
                raise UserError(f"{flag(name)}: {mark.words}, got {' '.join(map(str, values))}")


def idle(config: Any) -> dict[str, str]:
    """The fields that say nothing beside the others, and with what they would."""
    marked = ((name, mark) for name, marks in _marks(type(config)).items() for mark in marks)
    return {name: mark.words for name, mark in marked if isinstance(mark, Only) and not mark.holds(config)}


def refuse_idle(config: Any, default: Any) -> None:
    """UserError for the first flag that was given, as it is not its default, and says nothing beside the others."""
    for name, words in idle(config).items():
        if getattr(config, name) != getattr(default, name):
            raise UserError(f"{flag(name)}: says something with {words} alone, which is not so here")


def free_to_change(config_type: type) -> frozenset[str]:
    """The fields that may differ between a run and its resumption."""
    return frozenset(name for name, marks in _marks(config_type).items() if FREE in marks)


def shared_by_all(config: Any) -> dict[str, Any]:
    """What all processes of a run must have been told alike: flag -> value."""
    return {flag(name): getattr(config, name) for name, marks in _marks(type(config)).items() if LOCAL not in marks}


def _marks(config_type: type) -> dict[str, tuple]:
    """What the annotation of each field holds beside its type."""
    hints = typing.get_type_hints(config_type, include_extras=True)
    return {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
