"""A pathway of a momentum contrast: a network with its head, and the slowly moving copies of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from motionops.contrast.momentum_encoder import MomentumEncoder
from motionops.models.heads import ProjectionHead
from motionops.models.image_weights import starting_backbone
from motionops.models.shapes import feature_shape
from motionops.models.shuffled_batch_norm import Shuffle, forward_each, forward_together

Clips = Any  # a tensor, or lists and named tuples of them: what a step has of clips, by their names


class Pathway(nn.Module):
    """Backbone and head of the queries, and their momentum copies, which see the keys.

    Clips come in any nesting of lists and named tuples, and their maps are returned in the same: nothing is known by
    its place in a row.

    Args:
        backbone: `[B, 3, T, S, S] -> [B, C, T', H', W']`, any module.
        head: `[..., C] -> [..., D]`, or several by name in an `nn.ModuleDict`.
        momentum: of both copies.
        group: samples that share BatchNorm statistics; 0: all of a process.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, momentum: float, group: int = 0) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.key_backbone = MomentumEncoder(backbone, momentum)
        self.key_head = MomentumEncoder(head, momentum)
        self.group = group

    @classmethod
    def of(cls, flags: Any, backbone: nn.Module | None = None) -> Pathway:
        """`around` a module that is given, or the network that --backbone names; with the weights of --init, if any."""
        return cls.around(starting_backbone(flags.backbone, flags.init, backbone), flags, flags.frames)

    @classmethod
    def around(cls, backbone: nn.Module, flags: Any, frames: int) -> Pathway:
        """With a head for clips of so many frames, as the flags --hidden, --dim, --momentum and --group say."""
        channels, *_ = feature_shape(backbone, frames, flags.size)
        return cls(backbone, ProjectionHead(channels, flags.hidden, flags.dim), flags.momentum, flags.group)

    def move(self) -> None:
        """Move the copies towards what they are copies of: once a step, before its clips are seen."""
        self.key_backbone.update(self.backbone)
        self.key_head.update(self.head)

    def maps(self, clips: Clips) -> Clips:
        """Feature maps of the queries' clips, each clip normalised by itself (Section 4.1 of FIMA: in groups)."""
        return like(clips, forward_together(self.backbone, list(leaves(clips)), self.group))

    def key_maps(self, clips: Clips, shuffles: Clips) -> Clips:
        """Feature maps of the keys' clips by the momentum copy, under shuffled BatchNorm; no gradient.

        Args:
            clips: of one shape.
            shuffles: of each clip, in the same nesting (`draw_shuffle`).
        """
        return like(clips, forward_each(self.key_backbone, list(leaves(clips)), list(leaves(shuffles)), self.group))

    def embed(self, maps: Clips) -> Clips:
        """Embeddings `[B, D]` of whole maps."""
        return embedded(self.head, maps)

    def embed_keys(self, maps: Clips) -> Clips:
        """Embeddings `[B, D]` of whole maps, by the momentum copy of the head."""
        return embedded(self.key_head, maps)


def embedded(head: Callable[[Tensor], Tensor], maps: Clips) -> Clips:
    """Embeddings of whole maps; a head has no BatchNorm, so that one call serves them all."""
    every = list(leaves(maps))
    return like(maps, head(torch.cat([pooled(features) for features in every])).chunk(len(every)))


def pooled(features: Tensor) -> Tensor:
    """Mean over time and space in float32, `[B, C, T, H, W] -> [B, C]`."""
    return features.float().mean(dim=(2, 3, 4))


def leaves(nested: Clips) -> Iterator[Tensor | Shuffle | None]:
    """What is nested in lists and named tuples, in order."""
    if isinstance(nested, (list, tuple)) and not isinstance(nested, Shuffle):
        for part in nested:
            yield from leaves(part)
    else:
        yield nested


def like(nested: Clips, values: Any) -> Clips:
    """The values, in the nesting of another."""
    rest = iter(values)

    def filled(part: Clips) -> Clips:
        if not isinstance(part, (list, tuple)):
            return next(rest)
        parts = [filled(each) for each in part]
        return type(part)(*parts) if hasattr(part, "_fields") else parts

    return filled(nested)
