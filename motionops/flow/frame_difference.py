"""Frame differences: the simplest picture of motion."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from motionops.arrays import Array, as_tensor
from motionops.fake_kernels import register_shapes
from motionops.gradients import call, register_gradient
from motionops.library import NAMESPACE
from motionops.scalars import check_scalars

FIRST_FRAMES = ("wrap", "repeat")
AXES = ("B", "C", "H", "W")  # of a clip, beside time
TIME = 2  # where the operator takes it


def frame_difference(clip: Tensor | Array, *, first: str = "wrap", dim: int = TIME) -> Tensor:
    """How every frame of a clip differs from the one before it, as a clip of the same range.

    ``d_t = (x_t - x_{t-1} + 1) / 2``, so 0.5 is no change. (FIMA, the motion input of the momentum encoder.)

    Args:
        clip: ``[B, C, T, H, W]`` in [0, 1], or with time elsewhere; float32, bfloat16, float16 or float64; any strides;
            any device.
        first: what stands for the frame before the first. ``"wrap"``: the last one, as FIMA was released.
            ``"repeat"``: the first difference is a copy of the second (0.5 where T = 1).
        dim: the axis of time: 1 for ``[B, T, C, H, W]`` and ``[B, T, H, W, C]``; negative ones count from the end.

    Returns:
        Shape, dtype and device of ``clip``; dense, its axes in the order in which ``clip`` has them in
        memory. Differentiable once.

    Raises:
        TypeError: ``clip`` is no floating tensor or array, ``dim`` no whole number.
        ValueError: wrong shape, ``first`` is neither of the two, ``dim`` no axis of a clip.
    """
    if first not in FIRST_FRAMES:
        raise ValueError(f'frame_difference: first must be "wrap" or "repeat", got {first!r}')
    check_scalars("frame_difference", whole={"dim": dim})
    time, rank = int(dim), len(AXES) + 1
    if not -rank <= time < rank:
        raise ValueError(f"frame_difference: dim must be in [{-rank}, {rank - 1}], got {dim}")
    clip = as_tensor("frame_difference", "clip", clip)
    if clip.ndim != rank:
        axes = [*AXES]
        axes.insert(time % rank, "T")
        raise ValueError(f"frame_difference: clip must be [{', '.join(axes)}], got {list(clip.shape)}")
    if time % rank != TIME:
        clip = clip.movedim(time, TIME)
    difference = call("frame_difference", clip, first, wanted=clip.requires_grad)
    return difference if time % rank == TIME else difference.movedim(TIME, time)


def frame_difference_reference(clip: Tensor, *, first: str = "wrap", dim: int = TIME) -> Tensor:
    """The definition of :func:`frame_difference` in plain PyTorch: any dtype, differentiable any number of times."""
    before = clip.roll(1, dims=dim)
    difference = (clip - before + 1) / 2
    if first == "repeat" and clip.shape[dim] > 1:
        rest = difference.narrow(dim, 1, clip.shape[dim] - 1)
        difference = torch.cat([rest.narrow(dim, 0, 1), rest], dim=dim)
    return difference


def register(namespace: str) -> None:
    """Register shapes (fake kernels) and gradients of the operators in ``namespace``."""

    def shapes(clip: Tensor, first: str) -> Tensor:
        return torch.empty_like(clip)

    def backward_shapes(grad_difference: Tensor, first: str) -> Tensor:
        return torch.empty_like(grad_difference)

    def save(ctx: Any, inputs: tuple[Tensor, str], output: Tensor) -> None:
        _, ctx.first = inputs

    def backward(ctx: Any, grad_difference: Tensor, backward_operator: Any) -> tuple[Tensor]:
        return (backward_operator(grad_difference, ctx.first),)

    register_shapes(namespace, "frame_difference", shapes)
    register_shapes(namespace, "frame_difference_backward", backward_shapes)
    register_gradient(namespace, "frame_difference", save, backward)


register(NAMESPACE)
