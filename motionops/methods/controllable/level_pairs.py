"""Which clips of a step are pairs, for the mutual information of what they look like."""

from __future__ import annotations

import torch
from torch import Tensor


def level_pairs(
    levels: Tensor, videos: Tensor, marginals: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of the joint and of the marginal distribution (Controllable Augmentations, Section 3.2).

    A pair of the joint are two clips of different videos with the same intensity level; of the marginal, arbitrary
    clips of different videos. Every clip that has a partner is paired with one of its partners, at random.

    Args:
        levels: int64 `[N]`, the intensity level of each clip, on the CPU.
        videos: int64 `[N]`, the video that each is of.
        marginals: M.
        generator: on the CPU; without it torch's own.

    Returns:
        int64 `(first [P], second [P], others [P, M])`: clips (first, second) share their level, (first, others) are
        arbitrary. P is 0 where no two clips of different videos share a level.
    """
    strange = videos[:, None] != videos[None]
    partner = strange & (levels[:, None] == levels[None])
    first = partner.any(dim=1).nonzero()[:, 0]
    draws = torch.rand(len(levels), len(levels), generator=generator)
    second = draws.masked_fill(~partner, -1.0).argmax(dim=1)[first]
    others = other_videos(videos, videos, marginals, generator)
    return first, second, others[first]


def other_videos(videos: Tensor, among: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """For every row, `count` places of `among` with another video, at random, with repetition.

    Args:
        videos: int64 `[N]`, on the CPU.
        among: int64 `[M]`, with at least two different videos.
        count: places a row.
        generator: on the CPU; without it torch's own.

    Returns:
        int64 `[N, count]`.
    """
    allowed = (videos[:, None] != among[None]).float()
    return torch.multinomial(allowed, count, replacement=True, generator=generator)
