"""The momentum encoder of MoCo (He et al., CVPR 2020) and its shuffled BatchNorm."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from motionops.arrays import to_device
from motionops.learning.distributed import gather, world


class MomentumEncoder(nn.Module):
    """A slowly moving copy of a network: parameters k <- m k + (1 - m) q, no gradients.

    BatchNorm's running statistics and other buffers are not averaged: the copy keeps its own, from the clips that it
    sees. It stays in training mode as its owner does, so keys are normalised by their batch's statistics.

    Args:
        network: the online network; copied once, not kept.
        momentum: m, in [0, 1].
    """

    def __init__(self, network: nn.Module, momentum: float = 0.999) -> None:
        super().__init__()
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"MomentumEncoder: momentum must be in [0, 1], got {momentum}")
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.momentum = momentum

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move this copy's parameters towards those of `network` (the online network, same architecture)."""
        own, online = list(self.network.parameters()), list(network.parameters())
        if len(own) != len(online):
            raise ValueError(f"MomentumEncoder: network must have {len(own)} parameters, got {len(online)}")
        torch._foreach_lerp_(own, [parameter.detach() for parameter in online], 1.0 - self.momentum)

    @torch.no_grad()
    def forward(self, *args, **kwargs):
        """The network's output, without gradients."""
        return self.network(*args, **kwargs)


def forward_in_groups(network: nn.Module, clips: Tensor, group: int = 0) -> Tensor:
    """Run `network` on `clips [B, ...]` in groups of `group` samples, each with its own BatchNorm statistics.

    One process then normalises as several small GPUs did: FIMA was released with 8 clips a GPU. 0 is one group. A last
    group that would hold one sample joins the one before (the statistics of one sample make all keys alike).
    """
    if group <= 0 or len(clips) <= group:
        return network(clips)
    groups = list(clips.split(group))
    if len(groups[-1]) == 1:
        groups[-2:] = [clips[-(group + 1) :]]
    return torch.cat([network(part) for part in groups])


@torch.no_grad()
def forward_shuffled(network: nn.Module, clips: Tensor, generator: torch.Generator, group: int = 0) -> Tensor:
    """Run a key network with shuffled BatchNorm (MoCo, Section 3.3): no statistics are shared between query and key.

    The samples of all ranks are permuted, dealt out again, normalised in groups of `group` (`forward_in_groups`), and
    put back in order. In one process without groups BatchNorm does not see the order, and nothing is moved.

    Args:
        network: `[B, ...] -> [B, ...]`.
        clips: `[B, ...]` of this rank; B equal on all ranks.
        generator: a CPU generator in the same state on all ranks; one permutation is drawn from it.
        group: samples that share statistics; 0: all of a rank.
    """
    rank, size = world()
    b = len(clips)
    # Drawn even where it is not needed: the stream then does not depend on the number of ranks.
    order = torch.randperm(size * b, generator=generator)
    if size == 1 and (group <= 0 or b <= group):
        return network(clips)
    order = to_device(order, clips.device)
    shuffled = gather(clips)[order[rank * b : (rank + 1) * b]]
    outputs = gather(forward_in_groups(network, shuffled, group))
    return outputs[order.argsort()[rank * b : (rank + 1) * b]]
