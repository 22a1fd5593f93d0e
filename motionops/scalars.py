"""Checking arguments that are single numbers: torch's own message for a wrong one is a page."""

from __future__ import annotations

from typing import Any


def check_scalars(op: str, *, real: dict[str, Any] | None = None, whole: dict[str, Any] | None = None) -> None:
    """Raise TypeError for the first argument that is no number, or no whole one.

    Args:
        op: the operator's name, for the message.
        real: arguments that are numbers: anything that converts to a float, as NumPy's and tensors of one element do.
        whole: arguments that are whole numbers: anything that Python takes as an index.
    """
    for name, value in (real or {}).items():
        if not hasattr(value, "__float__"):
            raise TypeError(f"{op}: {name} must be a number, got {value!r}")
    for name, value in (whole or {}).items():
        if not hasattr(value, "__index__"):
            raise TypeError(f"{op}: {name} must be a whole number, got {value!r}")
