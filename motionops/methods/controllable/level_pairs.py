"""Which clips of a step are pairs, for the mutual information of what they look like."""

from __future__ import annotations

import torch
from torch import Tensor


def level_pairs(
    levels: Tensor, videos: Tensor, marginals: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of the joint and of the marginal distribution (Controllable Augmentations, Section 3.2).

    Pairs of the joint are all pairs of clips of different videos with the same intensity level; of the marginal,
    arbitrary clips of different videos.

    Args:
        levels: int64 `[N]`, the intensity level of each clip, on the CPU.
        videos: int64 `[N]`, the video that each is of.
        marginals: M.
        generator: on the CPU; without it torch's own.

    Returns:
        int64 `(first [P], second [P], others [N, M])`: clips (first, second) share their level, each pair both ways;
        `others` of each clip are arbitrary. P is 0 where no two clips of different videos share a level.
    """
    first, second = same_level(levels[None], videos[:, None] != videos[None])
    return first, second, other_videos(videos, videos, marginals, generator)


def same_level(levels: Tensor, strange: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of clips of one level within each step.

    Args:
        levels: int64 `[S, N]`, of N clips in each of S steps; below 0 there is no clip.
        strange: bool `[N, N]`, which clips of a step are of different videos.

    Returns:
        int64 `(first [P], second [P])`, places in the flat `[S N]`.
    """
    shared = (levels[:, :, None] == levels[:, None]) & strange & (levels >= 0)[:, None]
    step, first, second = shared.nonzero(as_tuple=True)
    return step * levels.shape[1] + first, step * levels.shape[1] + second


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
