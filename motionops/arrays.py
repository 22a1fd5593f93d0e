"""Taking arrays of any library: NumPy, CuPy, JAX and others hand over their memory by DLPack, without a copy."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


class Array(Protocol):
    """An array of another library that hands its memory over: NumPy's, CuPy's, JAX's."""

    def __dlpack__(self, *, stream: Any = ...) -> Any: ...


def as_tensor(op: str, argument: str, value: Any) -> Tensor:
    """Return ``value`` as a tensor that shares its memory.

    Args:
        op: the operator's name, for the message.
        argument: the argument's name, for the message.
        value: a tensor, or any object with ``__dlpack__``.

    Raises:
        TypeError: it is neither, or its memory cannot be shared.
    """
    if isinstance(value, Tensor):
        return value
    if not hasattr(value, "__dlpack__"):
        raise TypeError(
            f"{op}: {argument} must be a tensor or an array with __dlpack__ (NumPy, CuPy, JAX), got {_name(value)}"
        )
    try:
        # torch.from_numpy also takes what NumPy does not export by DLPack: read-only arrays
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else torch.from_dlpack(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TypeError(
            f"{op}: {argument} must be an array that torch can share, got {_name(value)}: {error}"
        ) from error


def as_optional_tensor(op: str, argument: str, value: Any | None) -> Tensor | None:
    """Like :func:`as_tensor`; None stays None."""
    return None if value is None else as_tensor(op, argument, value)


def numbers_on_host(op: str, argument: str, value: Any, *, whole: bool = False) -> Tensor:
    """Return ``value``, a number, a sequence of them, a tensor or an array, as a tensor on the CPU.

    Args:
        op: the operator's name, for the message.
        argument: the argument's name, for the message.
        value: what is given.
        whole: it must hold integers, and becomes int64.

    Raises:
        TypeError: it holds no numbers, or others.
        ValueError: a tensor without memory.
    """
    kind = "integers" if whole else "numbers"
    try:
        numbers = as_tensor(op, argument, value) if hasattr(value, "__dlpack__") else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{op}: {argument} must be {kind}, got {_name(value)}") from None
    if numbers.is_meta:
        raise ValueError(f"{op}: {argument} must hold values, got a tensor on meta")
    if whole and not numbers.numel():
        numbers = numbers.long()  # of an empty list
    wrong = numbers.is_complex() or numbers.dtype == torch.bool or (whole and numbers.is_floating_point())
    if wrong:
        raise TypeError(f"{op}: {argument} must be {kind}, got {numbers.dtype}")
    return numbers.detach().cpu().long() if whole else numbers.detach().cpu()


def can_be_read(tensor: Tensor) -> bool:
    """Whether its values can be looked at without waiting: on the CPU, and neither fake nor traced nor transformed."""
    return (
        tensor.is_cpu
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and torch._C._len_torch_dispatch_stack() == 0
        and not isinstance(tensor, FakeTensor)
    )


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` of the CPU on ``device``; the host does not wait for what the device is at, as a plain copy would."""
    if device.type == "cuda" and tensor.is_cpu:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def check_same_device(op: str, other_argument: str, other: Tensor, **arguments: Tensor | None) -> None:
    """Raise a ValueError where a tensor is not on the device of ``other``, in the operators' own words."""
    for argument, tensor in arguments.items():
        if tensor is not None and tensor.device != other.device:
            raise ValueError(f"{op}: {argument} must be on {other.device} as {other_argument} is, got {tensor.device}")


def _name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
