"""Motion vectors as FFmpeg exports them and PyAV hands them over, as one tensor of whole numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

# The names of FFmpeg's AVMotionVector after the number of the frame; src_x and src_y are dst and motion, rounded.
FIELDS = ("source", "w", "h", "dst_x", "dst_y", "motion_x", "motion_y", "motion_scale")
COLUMNS = ("frame", *FIELDS)
PAST = -1  # source of records that name none: a P-frame's vectors lead to the frame before

Records = np.ndarray | Mapping[str, np.ndarray]


def pack_records(
    records: Iterable[Records | None] | Records, frame: int | None = None, *, function: str = "pack_records"
) -> Tensor:
    """Turn PyAV's records into the rows that :func:`motionops.rasterize_motion_vectors` takes.

    Args:
        records: either one structured array a frame, in the order of the frames, None or an empty one for a frame
            without vectors (``side_data.get("MOTION_VECTORS").to_ndarray()``); or one structured array of all frames
            that has a field ``frame`` beside those of PyAV. A mapping of names to arrays does for a structured array.
            A field ``source`` that is missing is -1: all vectors lead to the frame before.
        frame: the number of the frame, where ``records`` is one array without that field.
        function: whom errors name.

    Returns:
        int32 ``[N, 9]``, columns :data:`COLUMNS`.

    Raises:
        TypeError: an array is not structured.
        ValueError: a field is missing.
    """
    if isinstance(records, (np.ndarray, Mapping)):
        if "frame" not in _names(records, function) and frame is None:
            raise ValueError(
                f"{function}: one array of records needs a field 'frame' or the argument frame; a list needs one array "
                "a frame"
            )
        return torch.from_numpy(_rows(records, frame, function))
    parts = [_rows(array, number, function) for number, array in enumerate(records) if array is not None]
    return torch.from_numpy(np.concatenate([np.empty((0, len(COLUMNS)), dtype=np.int32), *parts]))


def _names(records: Records, function: str) -> tuple[str, ...]:
    """The names of the fields; raises where one that is needed is missing."""
    names = tuple(records) if isinstance(records, Mapping) else getattr(getattr(records, "dtype", None), "names", None)
    if names is None:
        raise TypeError(f"{function}: records must be structured arrays as PyAV's, got {type(records).__name__}")
    missing = [field for field in FIELDS if field not in names and field != "source"]
    if missing:
        raise ValueError(f"{function}: records must have the fields {', '.join(FIELDS)}; {missing[0]} is missing")
    return names


def _rows(records: Records, frame: int | None, function: str) -> np.ndarray:
    """Rows int32 ``[N, 9]`` of one array; ``frame`` numbers those that name none."""
    names = _names(records, function)
    rows = np.empty((len(records["w"]), len(COLUMNS)), dtype=np.int32)
    for column, field in enumerate(COLUMNS):
        if field in names:
            rows[:, column] = records[field]
        else:
            rows[:, column] = frame if field == "frame" else PAST
    return rows
