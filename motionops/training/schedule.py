"""Learning rates as a function of the step alone, so that a resumed run needs no scheduler's memory."""

from __future__ import annotations

import math
from collections.abc import Sequence


def cosine_factor(
    step: int, steps_per_epoch: int, epochs: int, warmup_epochs: float = 0.0, per_step: bool = True
) -> float:
    """What the base rate is multiplied by: a linear warm-up, then half a cosine to 0.

    Args:
        step: steps done before this one, from 0.
        steps_per_epoch: steps an epoch.
        epochs: epochs in all, warm-up included.
        warmup_epochs: epochs of warm-up; its first step already has 1 / (steps of the warm-up).
        per_step: whether the rate moves every step; else once an epoch (as FIMA was released).
    """
    unit = 1 if per_step else steps_per_epoch
    now = step // unit * unit
    warmup = warmup_epochs * steps_per_epoch
    if now < warmup:
        return min((now + unit) / warmup, 1.0)
    length = epochs * steps_per_epoch - warmup
    return 0.5 * (1.0 + math.cos(math.pi * min((now - warmup) / length, 1.0))) if length > 0 else 0.0


def milestone_factor(step: int, steps_per_epoch: int, milestones: Sequence[int], warmup_epochs: float = 0.0) -> float:
    """What the base rate is multiplied by: a linear warm-up, then a division by 10 after each of the milestones.

    Args:
        step: steps done before this one, from 0.
        steps_per_epoch: steps an epoch.
        milestones: epochs; from the first step after that many epochs on the rate is a tenth.
        warmup_epochs: epochs of warm-up; its first step already has 1 / (steps of the warm-up).
    """
    warmup = warmup_epochs * steps_per_epoch
    rising = min((step + 1) / warmup, 1.0) if warmup > 0 else 1.0
    return rising * 0.1 ** sum(step >= milestone * steps_per_epoch for milestone in milestones)
