"""A configuration that knows which of its flags were asked for."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from motionops.flags import Only, _marks, free_to_change
from motionops.training.config import TrainConfig

# What the run around a method looks at, and not the method.
OF_THE_RUN = {field.name for field in dataclasses.fields(TrainConfig)}
OF_THE_RUN -= {"backbone", "frames", "stride", "size", "crop_area", "mean", "std"}


def watched(config: TrainConfig) -> TrainConfig:
    """The same configuration, of a class that notes in `read` which fields are read from now on."""
    names = {field.name for field in dataclasses.fields(config)}

    class Watched(type(config)):
        read: ClassVar[set[str]] = set()

        def __getattribute__(self, name: str) -> Any:
            if name in names:
                type(self).read.add(name)
            return super().__getattribute__(name)

    given = {name: getattr(config, name) for name in names}
    made = Watched(**given)
    Watched.read.clear()
    return made


def silent_flags(config: TrainConfig) -> list[str]:
    """The method's flags that nobody asked for, and that do not say themselves that they are idle here."""
    read = set(type(config).read)
    unread = set(given_names(config)) - read - OF_THE_RUN - free_to_change(type(config))
    marks = _marks(type(config))
    return sorted(
        name for name in unread if not any(isinstance(m, Only) and not m.holds(config) for m in marks.get(name, ()))
    )


def given_names(config: TrainConfig) -> list[str]:
    return [field.name for field in dataclasses.fields(config)]
