"""The shuffled BatchNorm of MoCo's keys (He et al., CVPR 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from motionops.arrays import to_device
from motionops.layers.batch_norm import in_groups, takes_groups
from motionops.ranks import exchange, world

# Values of the clips of one call. On a GPU many clips fill the multiprocessors of a network's last stages; their
# activations bound them (the first stage of R(2+1)D-18: 2.8 GB of 192 clips of 16 x 112 x 112, in bfloat16). On a CPU a
# call has the groups of one clip: more gain nothing there, and its caches lose.
LARGEST_CALL_ON_A_GPU = 2**27


def group_sizes(count: int, group: int) -> list[int]:
    """How `count` samples are cut into groups of `group`; 0 is one group.

    A last group that would hold one sample joins the one before (the statistics of one sample make all keys alike).
    """
    if group <= 0 or count <= group:
        return [count]
    sizes = [group] * (count // group) + [count % group] * (count % group > 0)
    if sizes[-1] == 1:
        sizes[-2:] = [group + 1]
    return sizes


def forward_in_groups(network: nn.Module, clips: Tensor, group: int = 0) -> Tensor:
    """Run `network` on `clips [B, ...]` in groups of `group` samples (`group_sizes`), each with its own BatchNorm
    statistics.

    One process then normalises as several small GPUs did: FIMA was released with 8 clips a GPU.
    """
    return forward_together(network, [clips], group)[0]


def forward_together(network: nn.Module, clips: Sequence[Tensor], group: int = 0) -> list[Tensor]:
    """Run `network` on several clips `[B, ...]`, each normalised by itself, in as few calls as memory bears.

    A call computes all groups of all its clips where the network's BatchNorm layers take them apart (those of
    `motionops.models` do); another network is called for each group.

    Args:
        network: `[B, ...] -> [B, ...]`.
        clips: of one shape, or each of its own.
        group: samples that share statistics; 0: all of a clip.
    """
    if not uses_batch_statistics(network):
        return list(network(torch.cat(list(clips))).split([len(clip) for clip in clips]))
    if not takes_groups(network):
        groups = [clip.split(group_sizes(len(clip), group)) for clip in clips]
        return [torch.cat([network(part) for part in parts]) for parts in groups]
    outputs: list[Tensor] = []
    for some in _calls(clips):
        sizes = [size for clip in some for size in group_sizes(len(clip), group)]
        together = some[0] if len(some) == 1 else torch.cat(some)
        output = in_groups(network, together, sizes) if len(sizes) > 1 else network(together)
        outputs += output.split([len(clip) for clip in some])
    return outputs


def _calls(clips: Sequence[Tensor]) -> list[list[Tensor]]:
    """The clips, dealt out to calls of the network in order."""
    calls: list[list[Tensor]] = []
    for clip in clips:
        largest = LARGEST_CALL_ON_A_GPU if clip.is_cuda else 0
        fits = calls and calls[-1][0].shape[1:] == clip.shape[1:]
        if fits and sum(other.numel() for other in calls[-1]) + clip.numel() <= largest:
            calls[-1].append(clip)
        else:
            calls.append([clip])
    return calls


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


def draw_shuffle(
    count: int, generator: torch.Generator, group: int = 0, device: torch.device | str = "cpu"
) -> Shuffle | None:
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
    device = torch.device(device)
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
    return forward_each(network, [clips], [shuffle], group)[0]


@torch.no_grad()
def forward_each(
    network: nn.Module, clips: Sequence[Tensor], shuffles: Sequence[Shuffle | None], group: int = 0
) -> list[Tensor]:
    """Run a key network on several clips `[B, ...]` of the same samples, each normalised by itself and shuffled.

    Without a BatchNorm layer that normalises by its batch nothing has to be shuffled.

    Args:
        network: `[B, ...] -> [B, ...]`.
        clips: of one shape.
        shuffles: of each clip.
        group: samples that share statistics; 0: all of a rank.
    """
    if not clips:
        return []
    if not uses_batch_statistics(network):
        return forward_together(network, clips)
    dealt = [_dealt(*both) for both in zip(clips, shuffles, strict=True)]
    outputs = forward_together(network, dealt, group)
    return [_put_back(*both) for both in zip(outputs, shuffles, strict=True)]


def _dealt(clips: Tensor, shuffle: Shuffle | None) -> Tensor:
    """The samples of all ranks that this one computes, in the order of their places."""
    if shuffle is None:
        return clips
    clips = clips[shuffle.own]
    if len(shuffle.sent) > 1:
        clips = exchange(clips, shuffle.sent, shuffle.received)[shuffle.dealt.argsort()]
    return clips


def _put_back(outputs: Tensor, shuffle: Shuffle | None) -> Tensor:
    """What became of this rank's own samples, in their order."""
    if shuffle is None:
        return outputs
    if len(shuffle.sent) > 1:
        outputs = exchange(outputs[shuffle.dealt], shuffle.received, shuffle.sent)
    return outputs[shuffle.own.argsort()]


def uses_batch_statistics(network: nn.Module) -> bool:
    """Whether a sample's output depends on the other samples of its batch: BatchNorm in training mode, or without
    running statistics."""
    layers = (module for module in network.modules() if isinstance(module, _BatchNorm))
    return any(layer.training or layer.running_mean is None for layer in layers)
