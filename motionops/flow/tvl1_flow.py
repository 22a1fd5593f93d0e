"""TV-L1 optical flow: where every pixel of one frame went in another."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from motionops.arrays import Array, as_tensor, can_be_read
from motionops.fake_kernels import register_shapes
from motionops.library import NAMESPACE, ops
from motionops.scalars import check_scalars

MEDIANS = (1, 3, 5)
WHITE = 255.0  # of the images for which the parameters are meant
IMAGES = (torch.uint8, torch.float32, torch.bfloat16, torch.float16, torch.float64)
SMALLEST_SIDE = 16  # of a level of the pyramid below the images themselves


def tvl1_flow(
    previous: Tensor | Array,
    following: Tensor | Array,
    *,
    max_value: float = 255.0,
    tau: float = 0.25,
    attachment: float = 0.15,
    tightness: float = 0.3,
    scales: int = 5,
    scale_step: float = 0.8,
    warps: int = 5,
    iterations: int = 30,
    median: int = 5,
) -> Tensor:
    """Optical flow with total variation as smoothness and absolute brightness difference as data term.

    ``previous(x) ≈ following(x + u(x))``. Coarse to fine; at each scale ``warps`` times: a median filter of the flow,
    ``following`` warped by it (bicubic), and ``iterations`` steps of the dual scheme. The counts are fixed: nothing
    is tested for convergence, so a GPU is never waited for. A pixel whose partner lies outside the image has no data
    term. (Zach, Pock, Bischof 2007, equations 8 to 15; Sánchez, Meinhardt, Facciolo, IPOL 2013.)

    Args:
        previous, following: grey images ``[N, H, W]``, 0 to ``max_value``; uint8, float32, bfloat16, float16 or
            float64, the two alike; any strides; any device. Where a value is not finite, the whole flow of its pair
            is NaN.
        max_value: what white is in the images, 1 where they go from 0 to 1. The other parameters are as for 255,
            whatever it is.
        tau: time step of the dual scheme, at most 0.25 for it to converge.
        attachment: weight of the data term, lambda: the smaller, the smoother the flow.
        tightness: theta: how closely the auxiliary flow is tied to the flow.
        scales: images in the pyramid. A level with a side below 16 pixels is left out, and all after it.
        scale_step: size of a level over that of the one before, in (0, 1).
        warps: warps per scale.
        iterations: steps per warp. OpenCV's ``innerIterations`` with ``outerIterations=1`` and ``epsilon=0``.
        median: side of the median filter, 5, 3, or 1 for none.

    Returns:
        ``[N, 2, H, W]``: u (pixels to the right), v (pixels down); float32 (float64 for float64). It never requires a
        gradient: the operator is not differentiable, and its inputs are detached.

    Raises:
        TypeError: a wrong dtype.
        ValueError: a wrong shape or parameter.

    Warns:
        UserWarning: floating images on the CPU of which no value is above 1, with the ``max_value`` of 255.
    """
    check_scalars(
        "tvl1_flow",
        real={
            "max_value": max_value,
            "tau": tau,
            "attachment": attachment,
            "tightness": tightness,
            "scale_step": scale_step,
        },
        whole={"scales": scales, "warps": warps, "iterations": iterations, "median": median},
    )
    max_value, attachment = float(max_value), float(attachment)
    for name, value in (("max_value", max_value), ("attachment", attachment)):
        if not 0 < value < math.inf:
            raise ValueError(f"tvl1_flow: {name} must be above 0, got {value:g}")
    previous = as_tensor("tvl1_flow", "previous", previous).detach()
    following = as_tensor("tvl1_flow", "following", following).detach()
    if max_value != WHITE:
        previous, following = _with_white(previous, following, max_value)
    elif _seem_to_end_at_1(previous, following):
        warnings.warn(
            "tvl1_flow: max_value is 255, but no value of previous and following is above 1: is max_value=1 meant?",
            stacklevel=2,
        )
    flow = ops().tvl1_flow.default(
        previous,
        following,
        float(tau),
        attachment,
        float(tightness),
        int(scales),
        float(scale_step),
        int(warps),
        int(iterations),
        int(median),
    )
    return _without_undefined(flow, previous, following)


def tvl1_flow_reference(
    previous: Tensor,
    following: Tensor,
    *,
    max_value: float = 255.0,
    tau: float = 0.25,
    attachment: float = 0.15,
    tightness: float = 0.3,
    scales: int = 5,
    scale_step: float = 0.8,
    warps: int = 5,
    iterations: int = 30,
    median: int = 5,
) -> Tensor:
    """The definition of :func:`tvl1_flow` in plain PyTorch, in float32, or float64 for float64."""
    real = torch.float64 if previous.dtype == torch.float64 else torch.float32
    levels = [tuple(image.detach().to(real) * (WHITE / max_value) for image in (previous, following))]
    while len(levels) < scales:
        height, width = (round(side * scale_step) for side in levels[-1][0].shape[-2:])
        if min(height, width) < SMALLEST_SIDE:
            break
        levels.append(tuple(_resize(image, height, width, (1 / scale_step,) * 2) for image in levels[-1]))

    flow = levels[-1][0].new_zeros(previous.shape[0], 2, *levels[-1][0].shape[-2:])
    for level, (first, second) in reversed([*enumerate(levels)]):
        height, width = first.shape[-2:]
        if level + 1 < len(levels):
            ratios = (flow.shape[-2] / height, flow.shape[-1] / width)
            flow = _resize(flow, height, width, ratios) / scale_step
        dual_x, dual_y = torch.zeros_like(flow), torch.zeros_like(flow)
        for _ in range(warps):
            flow = _median(flow, median)
            gradient, constant = _linearise(first, second, flow)
            square = gradient.square().sum(1)
            inverse = torch.where(square > torch.finfo(torch.float32).eps, 1 / square, 0)
            limit = attachment * tightness
            for _ in range(iterations):
                rho = constant + (gradient * flow).sum(1)
                step = (-rho * inverse).clamp(-limit, limit)
                flow = flow + step[:, None] * gradient + tightness * _divergence(dual_x, dual_y)
                right = pad(flow[..., 1:] - flow[..., :-1], (0, 1))
                below = pad(flow[..., 1:, :] - flow[..., :-1, :], (0, 0, 0, 1))
                scale = 1 + tau / tightness * (right.square() + below.square()).sqrt()
                dual_x = (dual_x + tau / tightness * right) / scale
                dual_y = (dual_y + tau / tightness * below) / scale
    return _without_undefined(flow, *levels[0])


def _without_undefined(flow: Tensor, previous: Tensor, following: Tensor) -> Tensor:
    """NaN for the flow of two images one of which holds a value that is not finite."""
    if not previous.is_floating_point():
        return flow
    defined = (previous.isfinite() & following.isfinite()).flatten(1).all(dim=1)
    return flow.masked_fill(~defined[:, None, None, None], torch.nan)


def _with_white(previous: Tensor, following: Tensor, max_value: float) -> tuple[Tensor, Tensor]:
    """The images from 0 to 255, in the type of the arithmetic; what the operator refuses as it is."""
    if previous.dtype != following.dtype or previous.dtype not in IMAGES:
        return previous, following
    real = torch.float64 if previous.dtype == torch.float64 else torch.float32
    factor = WHITE / max_value
    return previous.to(real) * factor, following.to(real) * factor


def _seem_to_end_at_1(*images: Tensor) -> bool:
    """Whether floating images have values in 0..1 alone, and are not black; looked at where that costs no waiting."""
    if not all(can_be_read(image) and image.is_floating_point() and image.numel() for image in images):
        return False
    return 0 < max(float(image.max()) for image in images) <= 1


def _divergence(x: Tensor, y: Tensor) -> Tensor:
    return x - pad(x[..., :-1], (1, 0)) + y - pad(y[..., :-1, :], (0, 0, 1, 0))


def _resize(image: Tensor, height: int, width: int, ratios: tuple[float, float]) -> Tensor:
    """Bilinear, pixel centres at half-integers, edges clamped; `ratios`: old pixels per new one, along y and x."""
    for axis, size, ratio in ((-2, height, ratios[0]), (-1, width, ratios[1])):
        centres = torch.arange(size, dtype=torch.float64, device=image.device) + 0.5
        last = image.shape[axis] - 1
        place = (centres * ratio - 0.5).clamp(0, last)
        low = place.floor().long()
        weight = (place - low).to(image.dtype)
        if axis == -2:
            weight = weight[:, None]
        a, b = image.index_select(axis, low), image.index_select(axis, (low + 1).clamp(max=last))
        image = a + weight * (b - a)
    return image


def _median(flow: Tensor, side: int) -> Tensor:
    if side == 1 or flow.numel() == 0:
        return flow
    edge = side // 2
    windows = pad(flow, (edge,) * 4, mode="replicate").unfold(-2, side, 1).unfold(-2, side, 1)
    return windows.flatten(-2).median(-1).values


def _linearise(first: Tensor, second: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """The warped gradient `[N, 2, H, W]` and the constant part of rho; both 0 where the partner is outside."""
    count, height, width = first.shape
    if first.numel() == 0:
        return torch.zeros_like(flow), torch.zeros_like(first)

    def central(axis: int) -> Tensor:
        last = second.shape[axis] - 1
        index = torch.arange(last + 1, device=second.device)
        ahead = second.index_select(axis, (index + 1).clamp(max=last))
        return (ahead - second.index_select(axis, (index - 1).clamp(min=0))) / 2

    layers = torch.stack([second, central(2), central(1)], 1).flatten(2)
    x = torch.arange(width, device=first.device) + flow[:, 0]
    y = torch.arange(height, device=first.device)[:, None] + flow[:, 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = x.where(inside, torch.zeros_like(x)), y.where(inside, torch.zeros_like(y))
    left, top = x.floor(), y.floor()
    weights_x, weights_y = _cubic(x - left), _cubic(y - top)
    warped = first.new_zeros(count, 3, height, width)
    for i in range(4):
        row = (top.long() + (i - 1)).clamp(0, height - 1)
        line = torch.zeros_like(warped)
        for j in range(4):
            column = (left.long() + (j - 1)).clamp(0, width - 1)
            index = (row * width + column).flatten(1)[:, None].expand(-1, 3, -1)
            line = line + weights_x[j][:, None] * layers.gather(2, index).view_as(warped)
        warped = warped + weights_y[i][:, None] * line
    warped = warped * inside[:, None]
    gradient = warped[:, 1:]
    constant = (warped[:, 0] - (gradient * flow).sum(1) - first) * inside
    return gradient, constant


def _cubic(t: Tensor) -> list[Tensor]:
    """Catmull-Rom: the weights of the pixels at -1, 0, 1, 2."""
    return [
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ]


def register(namespace: str) -> None:
    """Register the shapes (fake kernel) of the operator in ``namespace``."""

    def shapes(previous: Tensor, following: Tensor, *parameters: Any) -> Tensor:
        count, height, width = previous.shape
        real = torch.float64 if previous.dtype == torch.float64 else torch.float32
        return previous.new_empty((count, 2, height, width), dtype=real)

    register_shapes(namespace, "tvl1_flow", shapes)


register(NAMESPACE)
