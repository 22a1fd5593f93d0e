"""The compiled operators: loading them, and choosing which of their namespaces the public functions call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

try:
    from motionops import _C as extension
except ImportError as error:
    raise ImportError(
        f"motionops._C, the compiled operators, does not load with torch {torch.__version__} ({error}). Build it"
        " against this torch: `make build` in the source tree, or `pip install --no-build-isolation --no-deps .`"
    ) from error

NAMESPACE = "motionops"

_namespace = NAMESPACE


def has_cuda() -> bool:
    """Whether this build has the CUDA operators (not whether this machine has a GPU)."""
    return extension.has_cuda


def ops() -> Any:
    """Return the ``torch.ops`` namespace that the public functions call."""
    return getattr(torch.ops, _namespace)


@contextmanager
def use_namespace(name: str) -> Iterator[None]:
    """Let the public functions call the operators of another namespace while it lasts.

    Tests run the same list on ``motionops`` and on ``motionops_emulated`` with it.
    """
    global _namespace
    before, _namespace = _namespace, name
    try:
        yield
    finally:
        _namespace = before


def runs_on_cpu(namespace: str, tensor: torch.Tensor) -> bool:
    """Whether the operators of ``namespace`` run their CPU kernels on ``tensor``; the emulated ones never do."""
    return namespace == NAMESPACE and tensor.device.type == "cpu"


def check_same_device(op: str, other_argument: str, other: torch.Tensor, **arguments: torch.Tensor | None) -> None:
    """Raise the kernels' own ValueError where a tensor is not on the device of ``other``.

    For fake kernels: torch calls them, not the real ones, as soon as one of the tensors is a meta tensor.
    """
    for argument, tensor in arguments.items():
        if tensor is not None and tensor.device != other.device:
            raise ValueError(f"{op}: {argument} must be on {other.device} as {other_argument} is, got {tensor.device}")


def check_kept(op: str, wanted: Sequence[bool], kept_for: Sequence[bool]) -> None:
    """Raise where the backward pass wants a gradient, of query or of key, that the forward pass did not prepare."""
    for argument, wants, kept in zip(("query", "key"), wanted, kept_for, strict=False):
        if wants and not kept:
            raise RuntimeError(
                f"{op}: {argument}_gradient must be True where {argument} requires a gradient, got False"
            )


def forbid_double_backward(namespace: str, op: str) -> None:
    """Register that differentiating ``<op>_backward`` raises a RuntimeError that names ``op``."""

    def backward(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(f"{op}: its gradient cannot be differentiated again (there is no backward of the backward)")

    torch.library.register_autograd(f"{namespace}::{op}_backward", backward)
