"""Checking arguments that are numbers: torch's own message for a wrong one is a page."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def check_scalars(op: str, *, real: dict[str, Any] | None = None, whole: dict[str, Any] | None = None) -> None:
    """Raise TypeError for the first argument that is no number, or no whole one.

    Args:
        op: the operator's name, for the message.
        real: arguments that are numbers: anything that converts to a float, as NumPy's and scalar tensors do.
            They receive no gradient: a tensor that requires one is refused.
        whole: arguments that are whole numbers: anything that Python takes as an index.
    """
    for name, value in (real or {}).items():
        if isinstance(value, (int, float)):
            continue
        several = isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim > 0
        if several or not hasattr(value, "__float__"):
            raise TypeError(f"{op}: {name} must be a number, got {value!r}")
        if getattr(value, "requires_grad", False):
            raise TypeError(f"{op}: {name} must be a number that requires no gradient, got {value!r}")
    for name, value in (whole or {}).items():
        if not is_whole(value):
            raise TypeError(f"{op}: {name} must be a whole number, got {value!r}")


def is_whole(value: Any) -> bool:
    """Whether Python takes it as an index: whole numbers of any library, tensors of one among them."""
    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and not (value.is_floating_point() or value.is_complex())
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and np.issubdtype(value.dtype, np.integer)
    # the first for torch.compile, whose symbolic numbers are ints, but have no attributes before torch 2.12
    return isinstance(value, int) or hasattr(value, "__index__")


def grid_sizes(op: str, argument: str, grid: Any) -> list[int]:
    """``grid`` as three whole numbers (t, h, w).

    Args:
        op: the operator's name, for the message.
        argument: the argument's name, for the message.
        grid: any sequence of whole numbers.

    Raises:
        TypeError: it is no sequence, or holds anything but whole numbers.
        ValueError: it does not hold three.
    """
    try:
        numbers = [value.__index__() for value in grid]
    except (TypeError, AttributeError):
        raise TypeError(f"{op}: {argument} must be three whole numbers (t, h, w), got {grid!r}") from None
    if len(numbers) != 3:
        raise ValueError(f"{op}: {argument} must be three whole numbers (t, h, w), got {grid!r}")
    return numbers
