"""A warning where features are not of length 1 along their last axis: unnormalised ones, or channels somewhere else."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from motionops.arrays import can_be_read

LOOKED_AT = 16  # rows, of the first sample: a wrong layout or a forgotten normalisation shows in any of them
ALLOWED = 0.1  # what 16-bit types round a length by is a 25th of it

_seen: set[tuple[str, str, torch.Size]] = set()  # a call of a kind that was right before costs nothing


def warn_of_other_lengths(op: str, **features: Tensor) -> None:
    """Warn of features ``[..., D]`` on the CPU, which the operator has taken, that are no unit rows.

    Rows of zeros and undefined ones are not meant. The first features of a shape, however many, are looked at; those on
    a GPU are not: it would have to be waited for.
    """
    if torch.compiler.is_compiling():
        return
    for argument, values in features.items():
        kind = op, argument, values.shape[1:]
        # a kind that was seen comes first: asking what can be read costs several times as much
        if isinstance(values, FakeTensor) or kind in _seen or not can_be_read(values) or not values.numel():
            continue
        _seen.add(kind)
        rows = values.detach()
        while rows.ndim > 2:
            rows = rows[0]
        lengths = torch.linalg.vector_norm(rows[:LOOKED_AT], dim=-1).tolist()
        length = next((each for each in lengths if each > 0 and math.isfinite(each) and abs(each - 1) > ALLOWED), None)
        if length is not None:
            warnings.warn(
                f"{op}: {argument} must have rows of length 1 along its last axis, got {length:.3g} in "
                f"{list(values.shape)}: torch.nn.functional.normalize(..., dim=-1), channels last",
                stacklevel=3,
            )
