"""How far a result may be from the truth: judged by what plain PyTorch makes of the same inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def loss_and_gradients(function: Callable, sample: dict, wanted: tuple[str, ...]) -> dict[str, Tensor]:
    """The loss of `function(**sample)` and its gradients with respect to the `wanted` arguments."""
    sample = dict(sample)
    for name in wanted:
        sample[name] = sample[name].detach().clone().requires_grad_()
    result = function(**sample)
    loss = result if isinstance(result, Tensor) else result.loss
    gradients = torch.autograd.grad(loss, [sample[name] for name in wanted])
    return {"loss": loss.detach(), **dict(zip(wanted, gradients, strict=True))}


def widened(sample: dict) -> dict:
    """The same values in float64, with everything on the CPU."""
    return {
        name: value.detach().cpu().double() if value.is_floating_point() else value.cpu()
        for name, value in sample.items()
    }


def check_budget(
    ours: dict[str, Tensor], reference: dict[str, Tensor], truth: dict[str, Tensor], products: torch.dtype
) -> None:
    """|ours − truth| <= 2 |reference − truth| + tiny, for the worst element; gradients also as a whole.

    `tiny` is 4 units in the last place of the largest true value, or of 1 in the type of the sums: a sum of products of
    about 1 has some, in whatever order, and a gradient may be the small difference of two of them. In float64 the truth
    has errors of its own, so there it is 64 units. Matrix units also take probabilities in the products' type.
    """
    for name, true in truth.items():
        mine, theirs = ours[name].detach().cpu().double(), reference[name].detach().cpu().double()
        assert mine.shape == true.shape
        if true.numel() == 0:
            continue
        rounding = max(torch.finfo(ours[name].dtype).eps, torch.finfo(products).eps if true.ndim > 0 else 0)
        sums = torch.finfo(ours["loss"].dtype).eps
        tiny = (64 if ours[name].dtype == torch.float64 else 4) * max(rounding * true.abs().max().item(), sums)
        error, budget = (mine - true).abs().max().item(), (theirs - true).abs().max().item()
        assert error <= 2 * budget + tiny, (
            f"{name}: off by {error:.3g}, the reference by {budget:.3g} (tiny {tiny:.3g})"
        )
        if true.ndim > 0 and true.norm() > 1e-3:
            # element-wise bounds hide a bent or shrunk gradient
            assert 1 - torch.cosine_similarity(mine.flatten(), true.flatten(), dim=0) < 4 * rounding + 1e-6
            assert (mine - true).norm() / true.norm() < 4 * rounding + 1e-4
