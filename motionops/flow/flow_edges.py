"""Flow edges: where the speed of a flow field changes, MoDist's picture of motion."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from motionops.arrays import Array, as_tensor
from motionops.fake_kernels import register_shapes
from motionops.flow.checks import as_clips, safe_sqrt, with_axes_of
from motionops.gradients import call, register_gradient
from motionops.library import NAMESPACE
from motionops.scalars import check_scalars


def flow_edges(flow: Tensor | Array, *, max_value: float = 10.0) -> Tensor:
    """Edges of the magnitude of a flow field (MoDist: Xiao, Tighe, Modolo, CVPR 2022, Section 3.1).

    The magnitude ``sqrt(u² + v²)``, then its 3×3 Sobel derivatives (weights ±1, ±2, not normalised; edges
    replicated), then ``sqrt(gx² + gy²)``, clamped to [0, ``max_value``]. A camera's pan alone has no edges.

    Args:
        flow: ``[..., T, 2, H, W]`` in pixels, channel 0 = u (to the right), 1 = v (down), any leading axes; float32,
            bfloat16, float16 or float64; any strides; any device.
        max_value: the largest edge, > 0, in the flow's unit. Under ``torch.compile`` it is compiled in.

    Returns:
        ``[..., T, H, W]``, contiguous, dtype and device of ``flow``. Differentiable once; no gradient flows through an
        edge above ``max_value`` (one that equals it lets it pass) or a magnitude of 0.

    Raises:
        TypeError: ``flow`` is no floating tensor or array, ``max_value`` no number.
        ValueError: wrong shape, ``max_value`` not above 0.
    """
    if not hasattr(max_value, "__float__"):
        raise TypeError(f"flow_edges: max_value must be a number > 0, got {max_value!r}")
    check_scalars("flow_edges", real={"max_value": max_value})
    flow = as_tensor("flow_edges", "flow", flow)
    edges = call("flow_edges", as_clips("flow_edges", flow), float(max_value), wanted=flow.requires_grad)
    return with_axes_of(flow, edges)


def flow_edges_reference(flow: Tensor, *, max_value: float = 10.0) -> Tensor:
    """The definition of :func:`flow_edges` in plain PyTorch: any dtype, differentiable any number of times."""
    if flow.numel() == 0:
        return flow.sum(dim=-3)
    magnitude = safe_sqrt(flow.square().sum(dim=-3))
    *images, h, w = magnitude.shape
    m = F.pad(magnitude.reshape(-1, 1, h, w), (1, 1, 1, 1), mode="replicate").view(*images, h + 2, w + 2)
    difference = m[..., 2:] - m[..., :-2]
    smooth = m[..., :-2] + 2 * m[..., 1:-1] + m[..., 2:]
    gx = difference[..., :-2, :] + 2 * difference[..., 1:-1, :] + difference[..., 2:, :]
    gy = smooth[..., 2:, :] - smooth[..., :-2, :]
    edges = safe_sqrt(gx.square() + gy.square())
    return edges.masked_fill(edges > max_value, max_value)  # clamp's gradient at max_value is not every torch's alike


def register(namespace: str) -> None:
    """Register shapes (fake kernels) and gradients of the operators in ``namespace``."""

    def shapes(flow: Tensor, max_value: float) -> Tensor:
        return flow.new_empty([*flow.shape[:2], *flow.shape[3:]])

    def backward_shapes(grad_edges: Tensor, flow: Tensor, max_value: float) -> Tensor:
        return flow.new_empty(flow.shape)

    def save(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        flow, ctx.max_value = inputs
        ctx.save_for_backward(flow)

    def backward(ctx: Any, grad_edges: Tensor, backward_operator: Any) -> tuple[Tensor]:
        (flow,) = ctx.saved_tensors
        return (backward_operator(grad_edges, flow, ctx.max_value),)

    register_shapes(namespace, "flow_edges", shapes)
    register_shapes(namespace, "flow_edges_backward", backward_shapes)
    register_gradient(namespace, "flow_edges", save, backward)


register(NAMESPACE)
