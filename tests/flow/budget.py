"""How far an operator on flow may be from the truth: twice as far as the reference in the same type, and a little."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def check_budget(ours: Tensor, reference: Tensor, truth: Tensor) -> None:
    """|ours - truth| <= 2 |reference in that type - truth| + a few roundings of the largest value."""
    if truth.numel() == 0:
        return
    # the truth is itself computed in float64: there only the order of operations differs
    roundings = 256 if ours.dtype == torch.float64 else 8
    tiny = roundings * torch.finfo(ours.dtype).eps * max(1.0, truth.abs().max().item())
    error, budget = (ours.cpu().double() - truth).abs(), (reference.cpu().double() - truth).abs()
    assert (error <= 2 * budget + tiny).all(), f"off by {error.max():.3g}, the reference by {budget.max():.3g}"


def check_direction(ours: Tensor, truth: Tensor) -> None:
    """A gradient is neither bent nor shrunk, which element-wise bounds hide."""
    if truth.norm() == 0:
        return
    ours, eps = ours.cpu().double(), torch.finfo(ours.dtype).eps
    assert 1 - torch.cosine_similarity(ours.flatten(), truth.flatten(), dim=0) < 4 * eps
    # a slope that is a small difference of large values turns the direction of its edge: some 10 roundings' worth, of
    # which those to 16 bits hide all but their own
    distance = ((ours - truth).norm() / truth.norm()).item()
    assert distance < (32 if eps < 1e-4 else 4) * eps, f"a relative distance of {distance / eps:.1f} roundings"


def gradient(function: Callable[..., Tensor], flow: Tensor, weight: Tensor, **arguments: object) -> Tensor:
    """The gradient of sum(weight · function(flow)) with respect to the flow."""
    flow = flow.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    result = function(flow, **arguments)
    return torch.autograd.grad(result, flow, weight.to(result))[0]
