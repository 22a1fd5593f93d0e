"""The compiled operators: loading them, and choosing which of their namespaces the public functions call."""

from __future__ import annotations

import ctypes
import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch._guards import TracingContext
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

NAMESPACE = "motionops"
OPERATORS = Path(__file__).resolve().parent / "_operators.so"
OLDEST_TORCH = (2, 11)  # whose stable ABI the operators use
TYPE_ERROR = "TypeError: "

HOW_TO_BUILD = (
    "install a wheel (one file serves every Python from 3.10 and every torch from 2.11 on),"
    " or build it: `make build` in the source tree, `pip install --no-build-isolation .`"
)


def _load() -> dict[str, Any]:
    """Load the operators' library into torch and return what it says of its build."""
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise ImportError(f"motionops needs torch {oldest} or newer, this is {torch.__version__}")
    if not OPERATORS.exists():
        raise ImportError(f"{OPERATORS}, the compiled operators, is not there: {HOW_TO_BUILD}")
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
    return BUILD_FACTS["has_cuda"]


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


def current_namespace() -> str:
    """The namespace that the public functions call."""
    return _namespace


def register_shapes(namespace: str, op: str, shapes: Callable[..., Any]) -> None:
    """Register the fake kernel of an operator, and let its type errors be TypeErrors.

    Args:
        namespace: of the operator.
        op: its name.
        shapes: returns empty results for the operator's arguments, which its own checks have seen before.
    """

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


def _check_on_meta(namespace: str, op: str, arguments: Sequence[Any]) -> None:
    """Let the operator's own checks look at the arguments of its fake kernel, in the namespace for meta tensors."""
    operator = getattr(getattr(torch.ops, f"{namespace}_meta"), op).default
    names = [argument.name for argument in operator._schema.arguments]
    fakes = [(name, leaf) for name, value in zip(names, arguments, strict=True) for leaf in _leaves(value)]
    fakes = [(name, leaf) for name, leaf in fakes if isinstance(leaf, FakeTensor)]
    for name, leaf in fakes:  # as tensors without memory all of them are on one device
        other_name, other = fakes[0]
        if leaf.device != other.device:
            raise ValueError(f"{op}: {name} must be on {other.device} as {other_name} is, got {leaf.device}")
    with unset_fake_temporarily():  # there, an error would be logged with its traceback before it is raised
        values = [
            [*map(_as_meta, value)] if isinstance(value, (list, tuple)) else _as_meta(value) for value in arguments
        ]
        with_type_errors(operator)(*values)


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


def runs_on_cpu(namespace: str, tensor: torch.Tensor) -> bool:
    """Whether the operators of ``namespace`` run their CPU kernels on ``tensor``; the emulated ones never do."""
    return namespace == NAMESPACE and tensor.device.type == "cpu"
