"""The momentum encoder of MoCo (He et al., CVPR 2020), which makes the keys."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


class MomentumEncoder(nn.Module):
    """A slowly moving copy of a network: parameters k <- m k + (1 - m) q, no gradients.

    BatchNorm's running statistics and other buffers are not averaged: the copy keeps its own, from the clips that it
    sees. It stays in training mode as its owner does, so keys are normalised by their batch's statistics.

    Args:
        network: the online network; copied once, not kept.
        momentum: m, in [0, 1].

    Attributes:
        network: the copy.
        momentum: m of an :meth:`update` that names none.
    """

    def __init__(self, network: nn.Module, momentum: float = 0.999) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.momentum = _checked(momentum)

    @torch.no_grad()
    def update(self, network: nn.Module, momentum: float | None = None) -> None:
        """Move this copy's parameters towards those of the online network.

        Args:
            network: of the same architecture; also wrapped by DistributedDataParallel or ``torch.compile``.
            momentum: of this step, for one that changes (:func:`cosine_momentum`); None: that of the encoder.

        Raises:
            ValueError: a network with other parameters; a momentum outside of [0, 1].
        """
        momentum = self.momentum if momentum is None else _checked(momentum)
        own, online = list(self.network.parameters()), list(network.parameters())
        if len(own) != len(online):
            raise ValueError(f"MomentumEncoder: network must have {len(own)} parameters, got {len(online)}")
        torch._foreach_lerp_(own, [parameter.detach() for parameter in online], 1.0 - momentum)

    @torch.no_grad()
    def forward(self, *args, **kwargs) -> Tensor:
        """The network's output, without gradients."""
        return self.network(*args, **kwargs)


def cosine_momentum(step: int, steps: int, *, start: float = 0.99, end: float = 1.0) -> float:
    """Momentum that rises by half a cosine: ``end - (end - start) (cos(pi step / steps) + 1) / 2``.

    (Grill et al. 2020, BYOL, section 3.3; MoCo v3 has it too.)

    Args:
        step: steps done, from 0; behind ``steps`` it stays at ``end``.
        steps: of the whole run, at least 1.
        start, end: in [0, 1].

    Raises:
        ValueError: a number out of range.
    """
    if steps < 1 or step < 0:
        raise ValueError(f"cosine_momentum: steps must be >= 1 and step >= 0, got {steps} and {step}")
    for name, value in (("start", start), ("end", end)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"cosine_momentum: {name} must be in [0, 1], got {value}")
    return end - (end - start) * (math.cos(math.pi * min(step / steps, 1.0)) + 1.0) / 2.0


def _checked(momentum: float) -> float:
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"MomentumEncoder: momentum must be in [0, 1], got {momentum}")
    return momentum
