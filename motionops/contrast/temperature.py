"""The temperature of a contrastive loss, a number or a scalar tensor, as the operators take it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from motionops.scalars import check_scalars


def as_temperature(op: str, value: Any) -> tuple[Tensor | None, float]:
    """A scalar tensor or None, and the number that counts without one.

    A tensor's value is not looked at here: to read it from a GPU would wait for it, and to trace it would fix it.

    Args:
        op: the operator's name, for the message.
        value: a number of any library, or a scalar tensor.

    Raises:
        TypeError: it is neither.
    """
    if type(value) is float:  # as nearly always
        return None, value
    if isinstance(value, Tensor) and value.ndim == 0 and not value.is_complex():
        return value if value.is_floating_point() else value.float(), 1.0
    check_scalars(op, real={"temperature": value})
    return None, float(value)
