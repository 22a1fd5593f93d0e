"""The backward pass that the contrastive operators share: gradients of query and key, as far as they were prepared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor


def keep(
    ctx: Any,
    op: str,
    tensors: Sequence[Tensor | None],
    prepared: Sequence[bool],
    numbers: Sequence[Any],
    flags: Sequence[bool] = (),
) -> None:
    """Keep what ``<op>_backward`` takes: the gradient of the loss, ``tensors``, ``numbers``, two wishes, ``flags``.

    ``prepared``: whether the forward pass has made what the gradients of query and of key need.
    """
    ctx.save_for_backward(*tensors)
    ctx.op, ctx.prepared, ctx.numbers, ctx.flags = op, prepared, numbers, flags


def feature_gradients(
    ctx: Any, grad_loss: Tensor, backward_operator: Callable[..., tuple[Tensor, Tensor]]
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of query and key, None for one that is not wanted; RuntimeError for one that was not prepared."""
    wanted = ctx.needs_input_grad[:2]
    for argument, wants, prepared in zip(("query", "key"), wanted, ctx.prepared, strict=True):
        if wants and not prepared:
            raise RuntimeError(
                f"{ctx.op}: {argument}_gradient must be True where {argument} requires a gradient, got False"
            )
    query, key = backward_operator(grad_loss, *ctx.saved_tensors, *ctx.numbers, *wanted, *ctx.flags)
    return query if wanted[0] else None, key if wanted[1] else None
