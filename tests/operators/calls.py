"""Calling any operator in the same way: its results by name, its arguments elsewhere, and what torch calls for it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tests.operators.card import EXACT, Arguments, Card


def move(arguments: Any, device: torch.device | str) -> Any:
    """The arguments on a device, but for tensors without memory; strides are kept."""
    return pytree.tree_map_only(Tensor, lambda tensor: tensor if tensor.is_meta else tensor.to(device), arguments)


def tensors(arguments: Arguments) -> dict[str, Tensor]:
    """The tensors of a call, also those in lists and named tuples, by where they are."""
    leaves, _ = pytree.tree_flatten_with_path(arguments)
    return {pytree.keystr(path): leaf for path, leaf in leaves if isinstance(leaf, Tensor)}


def replaced(arguments: Arguments, where: str, value: Tensor) -> Arguments:
    """The arguments with another tensor in one place."""
    return pytree.tree_map_with_path(lambda path, leaf: value if pytree.keystr(path) == where else leaf, arguments)


def outputs(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


def cotangent(card: Card, arguments: Arguments) -> Tensor:
    """Weights of a sum over the first output."""
    with torch.no_grad():
        first = outputs(card.function(**arguments))[0]
    weights = torch.rand(first.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64) + 0.5
    return weights.to(first)


def run(
    card: Card,
    arguments: Arguments,
    weights: Tensor | None = None,
    *,
    function: Any = None,
    wanted: tuple[str, ...] | None = None,
    learning: tuple[str, ...] | None = None,
) -> dict[str, Tensor]:
    """What a call returns, and the gradients of the sum of its first output.

    Args:
        card: the operator.
        arguments: of the call; gradients have leaves of their own, which lie in memory as these.
        weights: of the sum; by default made anew.
        function: called in place of the operator.
        wanted: the arguments whose gradients are asked for; by default all that have one.
        learning: those that require one; by default the wanted ones.
    """
    wanted = card.learns if wanted is None else wanted
    wanted = tuple(name for name in wanted if arguments.get(name) is not None)
    leaves = {name: arguments[name].detach().requires_grad_() for name in learning or wanted}
    results = outputs((function or card.function)(**{**arguments, **leaves}))
    found = {f"output {number}": output.detach() for number, output in enumerate(results)}
    if wanted:
        weights = cotangent(card, arguments) if weights is None else weights
        gradients = torch.autograd.grad(results[0], [leaves[name] for name in wanted], weights.to(results[0]))
        found |= {f"gradient of {name}": value for name, value in zip(wanted, gradients, strict=True)}
    return found


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor], what: str = "", **tolerance: float) -> None:
    """Both hold the same names, types, shapes and values; NaN is where NaN is."""
    assert found.keys() == expected.keys(), what
    tolerance = tolerance or EXACT
    for name, value in expected.items():
        near = tolerance if value.is_floating_point() else EXACT
        said = partial("{} {}: {}".format, what, name)
        torch.testing.assert_close(found[name].cpu(), value.cpu(), **near, equal_nan=True, msg=said)


def layouts(tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The same values in other memory, and rows that share their memory: strides that an operator may be given."""
    if tensor.ndim == 0:
        return
    axes = range(tensor.ndim)
    orders = {tuple(reversed(axes)): "axes reversed"}
    for axis in axes:
        others = [other for other in axes if other != axis]
        orders |= {(*others, axis): f"axis {axis} is last", (axis, *others): f"axis {axis} is first"}
    for order, name in orders.items():
        back = [order.index(axis) for axis in axes]
        yield name, tensor.permute(order).contiguous().permute(back)
    for axis in axes:
        between = torch.stack([tensor, tensor.flip(axis)], dim=axis + 1).flatten(axis, axis + 1)
        yield f"every second of axis {axis}", between.narrow(axis, 0, 2 * tensor.shape[axis])[_every_second(axis)]
    wider = tensor.new_zeros([size + 3 for size in tensor.shape])  # it starts 1 behind an aligned address, or 3
    part = wider[tuple(slice(1, 1 + size) for size in tensor.shape)]
    part.copy_(tensor)
    yield "a part", part
    yield "behind others", torch.cat([tensor.new_zeros(1), tensor.flatten()])[1:].view(tensor.shape)
    for axis in (0, 1) if tensor.ndim > 3 else (0,):
        yield f"axis {axis} is expanded", tensor.narrow(axis, 0, 1).expand(tensor.shape)


def laid_out_together(arguments: Arguments, kind: str) -> Arguments:
    """The arguments with every tensor in one of the layouts, where it has enough axes for that."""
    for where, tensor in tensors(arguments).items():
        arguments = replaced(arguments, where, dict(layouts(tensor)).get(kind, tensor))
    return arguments


def _every_second(axis: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(None, None, 2))


class _Noting(TorchDispatchMode):
    def __init__(self, namespace: str):
        super().__init__()
        self.namespace = namespace
        self.calls: list[tuple[Any, tuple]] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if operator.namespace == self.namespace:
            kept = pytree.tree_map_only(Tensor, lambda tensor: tensor.detach(), args)
            self.calls.append((operator, kept))
        return operator(*args, **(kwargs or {}))


def raw_calls(card: Card, namespace: str, arguments: Arguments, **gradients: Any) -> list[tuple[Any, tuple]]:
    """The operators that a call and its backward pass come down to, with their arguments."""
    weights = cotangent(card, arguments) if card.learns else None
    with _Noting(namespace) as noting:
        run(card, arguments, weights, **gradients)
    return noting.calls
