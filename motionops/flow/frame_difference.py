"""Frame differences: the simplest picture of motion."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from motionops.arrays import as_tensor
from motionops.fake_kernels import register_shapes
from motionops.gradients import call, register_gradient
from motionops.library import NAMESPACE

FIRST_FRAMES = ("wrap", "repeat")


def frame_difference(clip: Any, *, first: str = "wrap") -> Tensor:
    """How every frame of a clip differs from the one before it, as a clip of the same range.

    ``d_t = (x_t - x_{t-1} + 1) / 2``, so 0.5 is no change. (FIMA, the motion input of the momentum encoder.)

    Args:
        clip: ``[B, C, T, H, W]`` in [0, 1]; float32, bfloat16, float16 or float64; any strides; any device.
        first: what stands for the frame before the first. ``"wrap"``: the last one, as FIMA was released.
            ``"repeat"``: the first difference is a copy of the second (0.5 where T = 1).

    Returns:
        ``[B, C, T, H, W]``, dtype and device of ``clip``; dense, its axes in the order in which ``clip`` has them in
        memory. Differentiable once.

    Raises:
        TypeError: ``clip`` is no floating tensor or array.
        ValueError: wrong shape, or ``first`` is neither of the two.
    """
    if first not in FIRST_FRAMES:
        raise ValueError(f'frame_difference: first must be "wrap" or "repeat", got {first!r}')
    clip = as_tensor("frame_difference", "clip", clip)
    return call("frame_difference", clip, first, wanted=clip.requires_grad)


def frame_difference_reference(clip: Tensor, *, first: str = "wrap") -> Tensor:
    """The definition of :func:`frame_difference` in plain PyTorch: any dtype, differentiable any number of times."""
    before = clip.roll(1, dims=2)
    difference = (clip - before + 1) / 2
    if first == "repeat" and clip.shape[2] > 1:
        difference = torch.cat([difference[:, :, 1:2], difference[:, :, 1:]], dim=2)
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
