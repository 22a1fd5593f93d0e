"""The momentum encoder of MoCo (He et al., CVPR 2020) and its shuffled BatchNorm."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from motionops.arrays import to_device
from motionops.learning.distributed import exchange, world


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


class Shuffle(NamedTuple):
    """How `forward_shuffled` deals out the samples of all ranks, as one rank sees it.

    Attributes:
        own: int64 `[B]`, this rank's samples in the order of the ranks, and of the places there, that they go to.
        dealt: int64 `[B]`, the places that the samples take which come to this rank, in the order of their ranks.
        sent: how many samples go to each rank.
        received: how many come from each rank.
    """

    own: Tensor
    dealt: Tensor
    sent: list[int]
    received: list[int]


def draw_shuffle(count: int, generator: torch.Generator, group: int, device: torch.device) -> Shuffle | None:
    """Draw where the samples of all ranks are normalised; None where nothing needs to be moved.

    That is in one process without groups: BatchNorm does not see the order.

    Args:
        count: B, samples of this rank; equal on all ranks.
        generator: a CPU generator in the same state on all ranks; one permutation is drawn from it.
        group: samples that share statistics; 0: all of a rank.
        device: of the samples.
    """
    rank, size = world()
    # Drawn even where it is not needed: the stream then does not depend on the number of ranks.
    order = torch.randperm(size * count, generator=generator)
    if size == 1 and (group <= 0 or count <= group):
        return None
    mine = slice(rank * count, (rank + 1) * count)
    places = order.argsort()[mine]  # those of this rank's samples, of all ranks' places
    sources = order[mine] // count  # the ranks whose samples come to this rank's places
    sent, received = ((ranks.bincount(minlength=size)).tolist() for ranks in (places // count, sources))
    own, dealt = places.argsort(), sources.argsort(stable=True)
    return Shuffle(to_device(own, device), to_device(dealt, device), sent, received)


@torch.no_grad()
def forward_shuffled(network: nn.Module, clips: Tensor, shuffle: Shuffle | None, group: int = 0) -> Tensor:
    """Run a key network with shuffled BatchNorm (MoCo, Section 3.3): no statistics are shared between query and key.

    The samples of all ranks are permuted, dealt out again, normalised in groups of `group` (`forward_in_groups`), and
    put back in order. A rank is sent the samples that it computes, and no others.

    Args:
        network: `[B, ...] -> [B, ...]`.
        clips: `[B, ...]` of this rank; B equal on all ranks.
        shuffle: `draw_shuffle`'s, of the same permutation on all ranks.
        group: samples that share statistics; 0: all of a rank.
    """
    if shuffle is None:
        return network(clips)
    several = len(shuffle.sent) > 1
    clips = clips[shuffle.own]
    if several:
        clips = exchange(clips, shuffle.sent, shuffle.received)[shuffle.dealt.argsort()]
    outputs = forward_in_groups(network, clips, group)
    if several:
        outputs = exchange(outputs[shuffle.dealt], shuffle.received, shuffle.sent)
    return outputs[shuffle.own.argsort()]


@torch.no_grad()
def forward_each(
    network: nn.Module, clips: Sequence[Tensor], shuffles: Sequence[Shuffle | None], group: int = 0
) -> list[Tensor]:
    """Run a key network on several clips `[B, ...]` of the same samples, each normalised by itself and shuffled.

    A BatchNorm layer in training mode normalises a clip by statistics of that clip's own batch: then there is a call of
    the network for each clip. Without one all clips pass through it in one call, and nothing has to be shuffled.

    Args:
        network: `[B, ...] -> [B, ...]`.
        clips: of one shape.
        shuffles: of each clip.
        group: samples that share statistics; 0: all of a rank.
    """
    if not clips:
        return []
    if uses_batch_statistics(network):
        return [forward_shuffled(network, *both, group) for both in zip(clips, shuffles, strict=True)]
    return list(network(torch.cat(list(clips))).split([len(clip) for clip in clips]))


def uses_batch_statistics(network: nn.Module) -> bool:
    """Whether a sample's output depends on the other samples of its batch: BatchNorm in training mode, or without
    running statistics."""
    layers = (module for module in network.modules() if isinstance(module, _BatchNorm))
    return any(layer.training or layer.running_mean is None for layer in layers)
