"""The other losses of Table 1: values of motion are predicted, not features."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def value_loss(predicted: Tensor, values: Tensor, levels: int, limit: float) -> tuple[Tensor, Tensor]:
    """Loss of predicted motion values, and the share of components whose range of values is predicted (Table 1).

    Args:
        predicted: `[..., 2]`, the values: their mean square error. Or `[..., 2 * levels]`, scores of the ranges of u,
            then of v: their cross-entropy.
        values: `[..., 2]`.
        levels, limit: the ranges are `levels` equal parts of -limit..limit, the outer ones without end.
    """
    ranges = ((values / limit + 1) * (levels / 2)).floor().clamp(0, levels - 1).long()
    if predicted.shape[-1] == values.shape[-1]:
        guessed = ((predicted / limit + 1) * (levels / 2)).floor().clamp(0, levels - 1).long()
        return (predicted - values).square().mean(), (guessed == ranges).float().mean()
    scores = predicted.unflatten(-1, (values.shape[-1], levels))
    loss = functional.cross_entropy(scores.flatten(0, -2), ranges.flatten())
    return loss, (scores.argmax(dim=-1) == ranges).float().mean()
