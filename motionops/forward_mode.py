"""Operators have no forward-mode derivatives: a tangent that reaches one is refused, where torch would drop it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_pop_interpreter_stack
from torch.autograd import forward_ad

_functorch = torch._C._functorch


def without_tangents(op: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, the operator ``op``, which refuses a tangent of any of its arguments by a RuntimeError."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if forward_ad._current_level >= 0:
            for value in (*arguments, *named.values()):
                if isinstance(value, Tensor) and _has_tangent(value):
                    raise RuntimeError(
                        f"{op}: it has no forward-mode derivative, as torch.func.jvp and dual numbers ask for:"
                        " take the backward pass"
                    )
        return function(*arguments, **named)

    return call


def _has_tangent(value: Tensor) -> bool:
    """Whether the tensor is dual, or, where transforms of torch.func wrap it, one of the tensors inside it is.

    A wrapper is looked at as its own transform sees it: those inside that one are put aside meanwhile.
    """
    if not _functorch.is_functorch_wrapped_tensor(value):
        return forward_ad.unpack_dual(value).tangent is not None
    level = _functorch.maybe_get_level(value)
    with ExitStack() as stack:
        while (inner := _functorch.peek_interpreter_stack()) is not None and inner.level() > level:
            stack.enter_context(temporarily_pop_interpreter_stack())
        # of a batch no rule tells the tangent: it has none of its own, what it wraps may
        if not _functorch.is_batchedtensor(value) and forward_ad.unpack_dual(value).tangent is not None:
            return True
        stack.enter_context(temporarily_pop_interpreter_stack())
        return _has_tangent(_functorch.get_unwrapped(value))
