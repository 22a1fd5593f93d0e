"""Shapes of operators on tensors without memory, meta and fake ones, with the checks that a real call makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._guards import TracingContext
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

from motionops.library import can_call, change_calls, with_type_errors


def register_shapes(namespace: str, op: str, shapes: Callable[..., Any]) -> None:
    """Register the fake kernel of an operator, and let its type errors be TypeErrors.

    Args:
        namespace: of the operator.
        op: its name.
        shapes: returns empty results for the operator's arguments, which its own checks have seen before.
    """

    if not can_call(namespace):
        return

    def fake(*arguments: Any) -> Any:
        # A compiled call makes its checks when it runs: its errors are then themselves, and not wrapped in dynamo's.
        compiling = TracingContext.try_get() is not None and not torch.compiler.is_exporting()
        if not compiling and not _has_symbols(arguments):
            _check_on_meta(namespace, op, arguments)
        try:
            return shapes(*arguments)
        except (ValueError, IndexError):
            _check_on_meta(namespace, op, arguments)  # says what does not fit
            raise

    torch.library.register_fake(f"{namespace}::{op}")(fake)
    change_calls(namespace, op, with_type_errors)


def _check_on_meta(namespace: str, op: str, arguments: Sequence[Any]) -> None:
    """Let the operator's own checks look at the arguments of its fake kernel, in the namespace for meta tensors."""
    operator = getattr(getattr(torch.ops, f"{namespace}_meta"), op).default
    names = [argument.name for argument in operator._schema.arguments]
    fakes = [(name, leaf) for name, value in zip(names, arguments, strict=True) for leaf in _leaves(value)]
    fakes = [(name, leaf) for name, leaf in fakes if isinstance(leaf, FakeTensor) and not _on_the_host(name, leaf)]
    for name, leaf in fakes:  # as tensors without memory all of them are on one device
        other_name, other = fakes[0]
        if leaf.device != other.device:
            raise ValueError(f"{op}: {name} must be on {other.device} as {other_name} is, got {leaf.device}")
    with unset_fake_temporarily():  # there, an error would be logged with its traceback before it is raised
        values = [
            [*map(_as_meta, value)] if isinstance(value, (list, tuple)) else _as_meta(value) for value in arguments
        ]
        with_type_errors(operator)(*values)


def _on_the_host(name: str, leaf: Any) -> bool:
    """A scalar that the host reads may be beside tensors of any device."""
    return name == "temperature" and leaf.device.type == "cpu"


def _leaves(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


def _has_symbols(arguments: Sequence[Any]) -> bool:
    """Whether a size or a number is a symbol: to look at it would fix its value."""
    leaves = [leaf for value in arguments for leaf in _leaves(value)]
    numbers = [
        n for leaf in leaves for n in ((*leaf.shape, *leaf.stride()) if isinstance(leaf, torch.Tensor) else [leaf])
    ]
    return any(isinstance(number, (torch.SymInt, torch.SymFloat, torch.SymBool)) for number in numbers)


def _as_meta(leaf: Any) -> Any:
    if isinstance(leaf, FakeTensor):
        shape, strides = ([int(number) for number in numbers] for numbers in (leaf.shape, leaf.stride()))
        return torch.empty_strided(shape, strides, dtype=leaf.dtype, device="meta")
    plain = {torch.SymInt: int, torch.SymFloat: float, torch.SymBool: bool}.get(type(leaf))
    return leaf if plain is None else plain(leaf)
