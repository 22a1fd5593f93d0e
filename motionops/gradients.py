"""How an operator that has a gradient is called.

A plain eager call goes through an ``autograd.Function`` outside the operator, in the style whose forward pass takes
``ctx``: of what autograd in Python costs, that is the least (docs/adding_an_op.md has the figures). Compiled, exported
and ``torch.func`` calls go to the operator itself, whose gradient torch knows from ``torch.library.register_autograd``.
Both take it from the same two functions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from motionops.forward_mode import without_tangents
from motionops.library import can_call, change_calls, current_namespace, require_operators, translated

# What a plain eager call goes through, by namespace and operator: to look it up each time would be a tenth of the call.
_with_gradient: dict[tuple[str, str], Callable[..., Any]] = {}
_without_gradient: dict[tuple[str, str], Callable[..., Any]] = {}


def register_gradient(
    namespace: str,
    op: str,
    save: Callable[..., None],
    backward: Callable[..., tuple[Any, ...]],
    *,
    differentiable: int = 1,
    results: int = 1,
) -> None:
    """Register the gradient of ``<op>``, by ``<op>_backward``, which cannot be differentiated again.

    Args:
        namespace: of the operators.
        op: the operator's name. Of its outputs the first is differentiable.
        save: ``save(ctx, inputs, output)`` keeps what the backward pass needs.
        backward: ``backward(ctx, gradient, backward_operator)`` returns a gradient or None for every differentiable
            input.
        differentiable: how many of the inputs, the first ones, may have a gradient.
        results: how many of the outputs the caller is given; the others are there for ``save``.
    """
    if not can_call(namespace):
        return
    operator = _without_gradient[namespace, op] = _plain(_operator(namespace, op))
    backward_operator = _operator(namespace, f"{op}_backward")
    plain_backward_operator = _plain(backward_operator)

    def forward(ctx: Any, *inputs: Any) -> Any:
        inputs = (*inputs[:-1], *inputs[-1])
        with torch._C._AutoDispatchBelowAutograd():
            output = operator(*inputs)
        ctx.set_materialize_grads(False)
        save(ctx, inputs, output)
        if isinstance(output, Tensor):
            return output
        floating = [other for other in output[1:results] if other.is_floating_point()]
        if floating:  # integers have no gradient as it is
            ctx.mark_non_differentiable(*floating)
        return output[:results]

    def backward_below_autograd(*arguments: Any) -> Any:
        # Around the operator alone: what unpacks saved tensors, as checkpointing does, may record a graph of its own.
        try:
            with torch._C._AutoDispatchBelowAutograd():
                return plain_backward_operator(*arguments)
        except RuntimeError as error:
            raise translated(error) from None

    def going_back(others: int) -> Callable[..., tuple[Any, ...]]:
        """The backward pass of a function with so many inputs beside the differentiable ones."""
        rest = (None,) * others

        def step_back(ctx: Any, gradient: Tensor | None, *of_other_results: None) -> tuple[Any, ...]:
            if gradient is None:  # of a result that nothing was made of
                return (None,) * (differentiable + others)
            if torch.is_grad_enabled() or torch.compiler.is_compiling() or forward_ad._current_level >= 0:
                return *backward(ctx, gradient, backward_operator), *rest  # to go back again is refused there
            return *backward(ctx, gradient, backward_below_autograd), *rest

        return step_back

    # The type's name is the graph's: queue_infonceBackward. What has no gradient is one input, as torch looks at each.
    functions = {"forward": staticmethod(forward), "backward": staticmethod(going_back(1))}
    function = type(op, (torch.autograd.Function,), functions).apply
    _with_gradient[namespace, op] = lambda *inputs: function(*inputs[:differentiable], inputs[differentiable:])

    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            ctx.mark_non_differentiable(*output[1:])
        save(ctx, inputs, output)

    others = len(_operator(namespace, op)._schema.arguments) - differentiable
    torch.library.register_autograd(f"{namespace}::{op}", going_back(others), setup_context=setup_context)

    def refuse(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(f"{op}: its gradient cannot be differentiated again (there is no backward of the backward)")

    torch.library.register_autograd(f"{namespace}::{op}_backward", refuse)
    for name in (op, f"{op}_backward"):
        change_calls(namespace, name, partial(without_tangents, name))


def call(op: str, *arguments: Any, wanted: bool) -> Any:
    """Call ``<op>`` of the namespace in use.

    Args:
        op: the operator's name.
        arguments: all of its arguments, in order.
        wanted: whether one of the differentiable arguments requires a gradient.

    Raises:
        RuntimeError: an argument has a tangent: there are no forward-mode derivatives.
    """
    namespace = current_namespace()
    if (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0  # the operator refuses tangents
        or (namespace, op) not in _without_gradient  # a profile's stand-in for another namespace
    ):
        return _operator(namespace, op)(*arguments)
    try:
        if wanted and torch.is_grad_enabled():
            return _with_gradient[namespace, op](*arguments)
        with torch._C._AutoDispatchBelowAutograd():
            return _without_gradient[namespace, op](*arguments)
    except RuntimeError as error:
        raise translated(error) from None


def _operator(namespace: str, op: str) -> Callable[..., Any]:
    require_operators(namespace)
    return getattr(getattr(torch.ops, namespace), op).default


def _plain(operator: Any) -> Callable[..., Any]:
    """The operator as torch has it; its errors are still to be translated."""
    return getattr(operator._op, "__wrapped__", operator)
