"""Motion maps: how strongly a flow field changes from place to place, MCL's measure of motion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from motionops.arrays import Array, as_tensor
from motionops.fake_kernels import register_shapes
from motionops.flow.checks import as_clips, safe_sqrt, with_axes_of
from motionops.gradients import call, register_gradient
from motionops.library import NAMESPACE
from motionops.scalars import grid_sizes


def motion_map(flow: Tensor | Array, *, grid: Sequence[int] | None = None) -> Tensor:
    """The motion map of a flow field, whole or averaged over the cells of a grid (MCL: Li et al., ICCV 2021, Eq. 1).

    ``sqrt(u_x² + u_y² + v_x² + v_y²)`` with central differences ``f_x = (f(x+1) - f(x-1)) / 2``, edges replicated. The
    derivatives take the camera's pan out: a constant flow has the map 0.

    Args:
        flow: ``[..., T, 2, H, W]`` in pixels, channel 0 = u (to the right), 1 = v (down), any leading axes; float32,
            bfloat16, float16 or float64; any strides; any device.
        grid: ``(t, h, w)``, which must divide (T, H, W): the map is averaged over t×h×w equal blocks in the same pass
            and never written. S-motion is the mean over t of it, T-motion that over h and w (Eq. 2).

    Returns:
        ``[..., T, H, W]``, or ``[..., t, h, w]`` with ``grid``; contiguous, dtype and device of ``flow``.
        Differentiable once; no gradient flows where the map is 0.

    Raises:
        TypeError: ``flow`` is no floating tensor or array, ``grid`` no whole numbers.
        ValueError: wrong shape, a grid that does not divide it.
    """
    flow = as_tensor("motion_map", "flow", flow)
    cells = None if grid is None else grid_sizes("motion_map", "grid", grid)
    return with_axes_of(flow, call("motion_map", as_clips("motion_map", flow), cells, wanted=flow.requires_grad))


def motion_map_reference(flow: Tensor, *, grid: Sequence[int] | None = None) -> Tensor:
    """The definition of :func:`motion_map` in plain PyTorch: any dtype, differentiable any number of times."""
    *leading, t, _, h, w = flow.shape
    if flow.numel() == 0:
        return flow.sum(dim=-3).reshape(*leading, *(grid or (t, h, w)))
    f = F.pad(flow.reshape(-1, 2, h, w), (1, 1, 1, 1), mode="replicate").view(*leading, t, 2, h + 2, w + 2)
    across = (f[..., 1:-1, 2:] - f[..., 1:-1, :-2]) / 2
    down = (f[..., 2:, 1:-1] - f[..., :-2, 1:-1]) / 2
    motion = safe_sqrt((across.square() + down.square()).sum(dim=-3))
    if grid is None:
        return motion
    blocks = motion.view(*leading, grid[0], t // grid[0], grid[1], h // grid[1], grid[2], w // grid[2])
    return blocks.mean(dim=(-5, -3, -1))


def register(namespace: str) -> None:
    """Register shapes (fake kernels) and gradients of the operators in ``namespace``."""

    def shapes(flow: Tensor, grid: list[int] | None) -> Tensor:
        b, t, _, h, w = flow.shape
        return flow.new_empty([b, *((t, h, w) if grid is None else grid)])

    def backward_shapes(grad_map: Tensor, flow: Tensor, grid: list[int] | None) -> Tensor:
        return flow.new_empty(flow.shape)

    def save(ctx: Any, inputs: tuple[Tensor, list[int] | None], output: Tensor) -> None:
        flow, ctx.grid = inputs
        ctx.save_for_backward(flow)

    def backward(ctx: Any, grad_map: Tensor, backward_operator: Any) -> tuple[Tensor]:
        (flow,) = ctx.saved_tensors
        return (backward_operator(grad_map, flow, ctx.grid),)

    register_shapes(namespace, "motion_map", shapes)
    register_shapes(namespace, "motion_map_backward", backward_shapes)
    register_gradient(namespace, "motion_map", save, backward)


register(NAMESPACE)
