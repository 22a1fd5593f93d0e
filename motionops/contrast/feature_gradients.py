"""The backward pass that the contrastive operators share: gradients of query, key and temperature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

DIFFERENTIABLE = 3  # the first arguments of each: query, key, temperature


def keep(
    ctx: Any,
    op: str,
    tensors: Sequence[Tensor | None],
    prepared: Sequence[bool],
    products: torch.dtype,
    numbers: Sequence[Any],
    flags: Sequence[bool] = (),
) -> None:
    """Keep what ``<op>_backward`` takes: the gradient of the loss, ``tensors``, ``numbers``, two wishes, ``flags``.

    ``tensors`` are query, key, the temperature or None, and others. ``prepared``: whether the forward pass has made
    what the gradients of query and of key need. ``products``: the type that queries are rounded to.
    """
    ctx.save_for_backward(*tensors)
    ctx.op, ctx.prepared, ctx.products, ctx.numbers, ctx.flags = op, prepared, products, numbers, flags


def feature_gradients(
    ctx: Any, grad_loss: Tensor, backward_operator: Callable[..., tuple[Tensor, Tensor]]
) -> tuple[Tensor | None, ...]:
    """The gradients of query, key and temperature, None for one that is not wanted.

    Raises:
        RuntimeError: one is wanted that the forward pass did not prepare.
    """
    of_query, of_key, of_temperature = ctx.needs_input_grad[:DIFFERENTIABLE]
    wanted = of_query or of_temperature, of_key
    if wanted[0] > ctx.prepared[0] or wanted[1] > ctx.prepared[1]:
        argument = "query" if wanted[0] > ctx.prepared[0] else "key"
        raise RuntimeError(
            f"{ctx.op}: {argument}_gradient must be True where {argument} requires a gradient, got False"
        )
    query, key, temperature, *others = ctx.saved_tensors
    given = _widened(query, ctx.products) if of_temperature else query  # the sum below is not of 16-bit gradients
    grad_query, grad_key = backward_operator(
        grad_loss, given, key, temperature, *others, *ctx.numbers, *wanted, *ctx.flags
    )
    grad_temperature = None
    if of_temperature:
        grad_temperature = _temperature_gradient(given, grad_query, temperature, ctx.products)
        grad_query = grad_query.to(query.dtype)
    return grad_query if of_query else None, grad_key if of_key else None, grad_temperature


def _temperature_gradient(query: Tensor, grad_query: Tensor, temperature: Tensor, products: torch.dtype) -> Tensor:
    """-1/tau sum(q . dL/dq): the loss knows queries and temperature as q / tau alone."""
    rounded = query.detach().to(products).to(grad_query.dtype)
    total = (rounded * grad_query).masked_fill(grad_query == 0, 0).sum()  # rows that do not count may be no numbers
    return -total.to(temperature.device) / temperature


def _widened(query: Tensor, products: torch.dtype) -> Tensor:
    return query.to(torch.promote_types(query.dtype, accumulation_dtype(products)))


def accumulation_dtype(products: torch.dtype) -> torch.dtype:
    """The type in which sums of products of ``products`` values are kept."""
    return torch.float64 if products == torch.float64 else torch.float32
