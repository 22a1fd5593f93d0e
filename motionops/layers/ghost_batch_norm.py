"""Batch normalisation of groups of samples, each by its own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from motionops.arrays import Array, as_optional_tensor, as_tensor
from motionops.fake_kernels import register_shapes
from motionops.gradients import call, register_gradient
from motionops.library import NAMESPACE
from motionops.scalars import check_scalars


class GhostBatchNorm(NamedTuple):
    """What :func:`ghost_batch_norm` returns.

    Attributes:
        output: ``[N, C, ...]``.
        mean: ``[G, C]``, of each group; float32, or float64 where the input is.
        var: ``[G, C]``, divided by the number of values.
    """

    output: Tensor
    mean: Tensor
    var: Tensor


pytree._register_namedtuple(GhostBatchNorm, serialized_type_name="motionops.GhostBatchNorm")


def ghost_batch_norm(
    input: Tensor | Array,
    weight: Tensor | Array | None = None,
    bias: Tensor | Array | None = None,
    *,
    groups: Sequence[int] | None = None,
    residual: Tensor | Array | None = None,
    relu: bool = False,
    eps: float = 1e-5,
) -> GhostBatchNorm:
    r"""Batch normalisation of each group of samples by its own statistics, with a shortcut's sum and ReLU in one pass.

    .. math::
        y = \max\left(0,\ \frac{x - \mu_g}{\sqrt{\sigma_g^2 + \epsilon}}\, w + b + r\right)

    with mean and variance over the samples of group ``g`` and their positions (Ioffe and Szegedy 2015, Algorithm 1, in
    the ghost batches of Hoffer et al. 2017, Algorithm 1): one call gives what a call for each group would.

    Args:
        input: ``[N, C, ...]``; float32, bfloat16, float16 or float64. Memory with the channels last
            (``torch.channels_last``, ``channels_last_3d``) is read as it lies, any other is copied to that.
        weight: ``[C]``, 1 where None.
        bias: ``[C]``, 0 where None.
        groups: samples of each group, in order, N in all; None: all are one.
        residual: ``[N, C, ...]``, added behind ``bias``; None: nothing is.
        relu: whether negative values become 0.
        eps: at least 0.

    Returns:
        :class:`GhostBatchNorm`; its output lies channels last in memory. Differentiable once with respect to input,
        weight, bias and residual; mean and var are not.

    Raises:
        TypeError: a type that is not supported.
        ValueError: shapes or devices that do not fit, groups that do not add up to N, a negative ``eps``.
    """
    op = "ghost_batch_norm"
    input = as_tensor(op, "input", input)
    if input.ndim < 2:
        raise ValueError(f"{op}: input must be [N, C, ...], got {list(input.shape)}")
    check_scalars(op, real={"eps": eps})
    kept = statistics_dtype(input.dtype)
    weight, bias = (_in_type(as_optional_tensor(op, n, v), kept) for n, v in (("weight", weight), ("bias", bias)))
    residual = as_optional_tensor(op, "residual", residual)
    input = channels_last(input)
    if residual is not None and residual.ndim > 1:  # of another shape the operator speaks
        residual = channels_last(residual)
    given = (input, weight, bias, residual)
    output, mean, var = call(
        op,
        *given,
        [input.shape[0]] if groups is None and input.shape[0] else [int(count) for count in groups or ()],
        float(eps),
        bool(relu),
        wanted=any(tensor is not None and tensor.requires_grad for tensor in given),
    )
    return GhostBatchNorm(output, mean, var)


def ghost_batch_norm_reference(
    input: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    groups: Sequence[int] | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
    eps: float = 1e-5,
) -> GhostBatchNorm:
    """:func:`ghost_batch_norm` in plain PyTorch: its definition. 16-bit inputs are widened and rounded once."""
    kept = statistics_dtype(input.dtype)
    outputs, means, variances = [], [], []
    per_channel = (-1, *(1,) * (input.ndim - 2))
    for samples in input.to(kept).split(list(groups or [len(input)])):
        axes = (0, *range(2, input.ndim))
        var, mean = torch.var_mean(samples, dim=axes, correction=0)
        normalised = (samples - mean.view(per_channel)) / (var.view(per_channel) + eps).sqrt()
        outputs.append(normalised)
        means.append(mean)
        variances.append(var)
    output = torch.cat(outputs)
    if weight is not None:
        output = output * weight.to(kept).view(per_channel)
    if bias is not None:
        output = output + bias.to(kept).view(per_channel)
    if residual is not None:
        output = output + residual.to(kept)
    if relu:
        output = output.relu()
    return GhostBatchNorm(output.to(input.dtype), torch.stack(means), torch.stack(variances))


def statistics_dtype(features: torch.dtype) -> torch.dtype:
    """The type of means, variances, weights and biases."""
    return torch.float64 if features == torch.float64 else torch.float32


def channels_last(tensor: Tensor) -> Tensor:
    """``[N, C, ...]`` dense in memory with the channels last; the tensor itself where it is."""
    last = tensor.movedim(1, -1)
    return tensor if last.is_contiguous() else last.contiguous().movedim(-1, 1)


def _in_type(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return tensor if tensor is None or not tensor.is_floating_point() else tensor.to(dtype)


def register(namespace: str) -> None:
    """Register shapes (fake kernels) and gradients of the operators in ``namespace``."""

    def shapes(input, weight, bias, residual, groups, eps, relu):
        statistics = input.new_empty((len(groups), input.shape[1]), dtype=statistics_dtype(input.dtype))
        return torch.empty_like(input), statistics, torch.empty_like(statistics)

    def backward_shapes(grad_output, input, weight, bias, output, mean, var, groups, eps, relu):
        of_channels = mean.new_empty((input.shape[1],))
        residual = input.new_empty((0,)) if output is None else torch.empty_like(input)
        return torch.empty_like(input), of_channels, torch.empty_like(of_channels), residual

    def save(ctx, inputs, output):
        input, weight, bias, residual, ctx.groups, ctx.eps, ctx.relu = inputs
        ctx.residual = residual is not None
        # What tells where ReLU let values through: without a residual it is computed again.
        ctx.save_for_backward(input, weight, bias, output[0] if ctx.relu and ctx.residual else None, *output[1:])

    def backward(ctx, grad_output, backward_operator):
        grad_output = channels_last(grad_output)
        grads = backward_operator(grad_output, *ctx.saved_tensors, ctx.groups, ctx.eps, ctx.relu)
        grad_input, grad_weight, grad_bias, grad_residual = grads
        if not ctx.residual:
            grad_residual = None
        elif not ctx.relu:
            grad_residual = grad_output
        every = (grad_input, grad_weight, grad_bias, grad_residual)
        return tuple(grad if wanted else None for grad, wanted in zip(every, ctx.needs_input_grad, strict=False))

    register_shapes(namespace, "ghost_batch_norm", shapes)
    register_shapes(namespace, "ghost_batch_norm_backward", backward_shapes)
    register_gradient(namespace, "ghost_batch_norm", save, backward, differentiable=4, results=3)


register(NAMESPACE)
