"""What the file of a network says of the clips that it was made for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from motionops.errors import UserError

KEPT = ("frames", "stride", "size", "crop", "mean", "std")  # in the header of a backbone's file
VECTORS = "vectors"  # in that of a network over motion vectors: arguments of `motion_features`


def read_header(metadata: Mapping[str, str], source: str) -> dict[str, Any]:
    """What a file's header says of its clips, by the names of `extract_features`' arguments.

    Raises:
        UserError: it says what no clip can be; the text names `source` and the field.
    """
    said = {}
    for name in (*KEPT, VECTORS):
        if name in metadata:
            try:
                said[name] = json.loads(metadata[name])
            except ValueError:
                said[name] = metadata[name]
    return checked_clip(said, source)


def checked_clip(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Those of the values that a file keeps, by their names; UserError where one of them cannot be."""
    checked = {}
    for name in (*KEPT, VECTORS):
        if name not in values:
            continue
        value = values[name]
        kind, words = _KINDS[name]
        if not kind(value):
            raise UserError(f"backbone: {source} says {name} {value!r}; it must be {words}")
        checked[name] = tuple(value) if isinstance(value, (list, tuple)) else value
    return checked


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST


def _number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _of_vectors(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != {"cell", "fill", "steps"}:
        return False
    steps = value["steps"]
    return _count(value["cell"]) and isinstance(value["fill"], bool) and (steps == 0 or _count(steps))


def _channels(value: Any, low: float) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(_number(v, low, _LARGEST) for v in value)


_LARGEST = 2**14  # of a side, of frames, and of a channel's mean and deviation, which are parts of 1
_TINY = 1e-6
_WHOLE = (_count, f"a whole number from 1 to {_LARGEST}")
_KINDS = {
    "frames": _WHOLE,
    "stride": _WHOLE,
    "size": _WHOLE,
    "crop": (lambda value: _number(value, _TINY, 1), "in (0, 1]"),
    "mean": (lambda value: _channels(value, -_LARGEST), "three numbers"),
    VECTORS: (_of_vectors, "a cell, whether key frames are filled, and steps"),
    "std": (lambda value: _channels(value, _TINY), "three positive numbers"),
}
