"""The compiled operators: loading them, and choosing which of their namespaces the public functions call."""

from __future__ import annotations

import ctypes
import functools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

NAMESPACE = "motionops"
OPERATORS = Path(__file__).resolve().parent / "_operators.so"
OLDEST_TORCH = (2, 11)  # whose stable ABI the operators use
TYPE_ERROR = "TypeError: "

HOW_TO_BUILD = (
    "install a wheel (one file serves every Python from 3.10 and every torch from 2.11 on),"
    " or build it: `make build` in the source tree, `pip install --no-build-isolation .`"
)


def _load() -> dict[str, Any] | None:
    """Load the operators' library into torch and return what it says of its build; None where there is none.

    Networks and their files need no operators: what does says so when it is called.
    """
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise ImportError(f"motionops needs torch {oldest} or newer, this is {torch.__version__}")
    if not OPERATORS.exists():
        return None
    path = str(OPERATORS)
    if path not in torch.ops.loaded_libraries and torch._C._dispatch_has_kernel(f"{NAMESPACE}::flow_edges"):
        others = [name for name in torch.ops.loaded_libraries if Path(name).name == OPERATORS.name]
        raise ImportError(
            f"another copy of motionops' operators is loaded in this process ({', '.join(others) or 'from elsewhere'});"
            f" {path} cannot be loaded beside it"
        )
    try:
        torch.ops.load_library(path)
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(
            f"{path}, the compiled operators, does not load with torch {torch.__version__} ({error}): {HOW_TO_BUILD}"
        ) from error
    library.motionops_build_facts.restype = ctypes.c_char_p
    return json.loads(library.motionops_build_facts())


BUILD_FACTS = _load()

_namespace = NAMESPACE


def has_cuda() -> bool:
    """Whether this build has the CUDA operators (not whether this machine has a GPU)."""
    return BUILD_FACTS is not None and BUILD_FACTS["has_cuda"]


def can_call(namespace: str) -> bool:
    """Whether there are operators in a namespace: in that of the package where they are built."""
    return namespace != NAMESPACE or BUILD_FACTS is not None


def require_operators(namespace: str) -> None:
    """ImportError where the operators of a namespace are not built; the text says how they are."""
    if not can_call(namespace):
        raise ImportError(f"{OPERATORS}, the compiled operators, is not there: {HOW_TO_BUILD}")


def ops() -> Any:
    """Return the ``torch.ops`` namespace that the public functions call. ImportError where it is not built."""
    require_operators(_namespace)
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


def current_namespace() -> str:
    """The namespace that the public functions call."""
    return _namespace


def change_calls(namespace: str, op: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Let ``change(function)`` be what a call of the operator in Python runs, where ``function`` was it."""
    packet = getattr(getattr(torch.ops, namespace), op)
    for called in (packet, packet.default):
        called._op = change(called._op)
    torch.jit._builtins._register_builtin(packet._op, f"{namespace}::{op}")  # torch.jit.script knows it by its function


def with_type_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, but a type that an operator's checks refuse is a TypeError.

    torch's stable ABI has none: the bindings (csrc/core/check_binding.h) say it in the text of a RuntimeError.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except RuntimeError as error:
            raise translated(error) from None

    return call


def translated(error: RuntimeError) -> Exception:
    """What an operator's error is in Python: itself, or a TypeError."""
    text = str(error)
    return TypeError(text.removeprefix(TYPE_ERROR)) if text.startswith(TYPE_ERROR) else error


def runs_on_cpu(namespace: str, tensor: torch.Tensor) -> bool:
    """Whether the operators of ``namespace`` run their CPU kernels on ``tensor``; the emulated ones never do."""
    return namespace == NAMESPACE and tensor.device.type == "cpu"
