"""Flags and values in a YAML file: what a run wrote down of itself, or what a person did."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from motionops.errors import UserError


def read_config(path: str, config_type: type, own_folder: Collection[str] = ()) -> dict[str, Any]:
    """The values of a file by the fields of a config.

    A run's config.yaml says in which folder it lies. Another run is not meant to be written there, so that this, and
    whether it was resumed, is passed over, unless `own_folder` holds flags for which it is that folder that is meant.

    Raises:
        UserError: no such file, no YAML of flags, a flag that is not there, a value that it does not take.
    """
    try:
        import yaml
    except ImportError as error:
        raise ImportError("--config needs yaml: pip install 'motionops[train]'") from error
    try:
        held = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config: {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config: {path} is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(held, dict) or not all(isinstance(name, str) for name in held):
        raise UserError(f'--config: {path}: expected lines of a flag and its value, "epochs: 30"')
    hints, values = typing.get_type_hints(config_type), {}
    names = [field.name for field in dataclasses.fields(config_type)]
    for name, value in held.items():
        field = name.replace("-", "_")
        if field not in names:
            near = difflib.get_close_matches(field, names, n=1)
            raise UserError(
                f"--config: {path}: there is no flag {name}" + (f"; did you mean {near[0]}?" if near else "")
            )
        try:
            values[field] = _as(hints[field], value)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"--config: {path}: {name} cannot be {value!r}") from None
    if not own_folder and Path(values.get("output", "")).resolve() == Path(path).resolve().parent:
        for name in ("output", "resume", "overwrite"):
            values.pop(name, None)
    return values


def _as(hint: Any, value: Any) -> Any:
    """A value of YAML as a field of this type holds it; an error where it is none."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        hint = next(part for part in parts if part is not type(None))
        return _as(hint, value)
    if origin is Literal:
        return {str(choice): choice for choice in parts}[str(value)]
    if origin is tuple:
        values = value if isinstance(value, list) else [value]
        kinds = [parts[0]] * len(values) if parts[-1] is Ellipsis else parts
        return tuple(_as(kind, each) for kind, each in zip(kinds, values, strict=True))
    if hint is bool or isinstance(value, bool) or value is None:
        if hint is bool and isinstance(value, bool):
            return value
        raise TypeError
    if hint is int and isinstance(value, float) and value != int(value):
        raise ValueError
    return hint(value)
