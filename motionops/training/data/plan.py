"""Which videos make up which batch: a function of seed and step, so that a run can be cut and continued anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from motionops.seeds import mix


class BatchPlan(Sampler):
    """The batches of a whole run in order, from `first_step` on, as lists of (epoch, video index).

    Every epoch is a permutation that depends on (seed, epoch) alone; its last videos that fill no batch are left out.
    With several ranks each gets a contiguous share of every batch: the ranks together see what one process would. A
    share may come in several parts, one after another.

    Args:
        videos: number of videos.
        batch_size: videos a step over all ranks; a multiple of `world * parts`, at most `videos`.
        steps: steps of the whole run.
        seed: of the order.
        rank, world: this process among how many.
        first_step: steps already done.
        parts: parts of a step, of `batch_size / (world * parts)` videos each.
    """

    def __init__(
        self,
        videos: int,
        batch_size: int,
        steps: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        first_step: int = 0,
        parts: int = 1,
    ) -> None:
        if batch_size < 1 or batch_size > videos or batch_size % (world * parts):
            raise ValueError(
                f"BatchPlan: batch_size must be a multiple of world={world} times parts={parts} and at most "
                f"videos={videos}, got {batch_size}"
            )
        self.videos, self.batch_size, self.steps, self.seed = videos, batch_size, steps, seed
        self.rank, self.world, self.first_step, self.parts = rank, world, first_step, parts
        self.steps_per_epoch = videos // batch_size

    def __len__(self) -> int:
        return max(self.steps - self.first_step, 0) * self.parts

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        share = self.batch_size // self.world
        part = share // self.parts
        epoch, order = -1, []
        for step in range(self.first_step, self.steps):
            now, position = divmod(step, self.steps_per_epoch)
            if now != epoch:
                epoch, order = now, permutation(self.videos, self.seed, now)
            start = position * self.batch_size + self.rank * share
            for first in range(start, start + share, part):
                yield [(epoch, video) for video in order[first : first + part]]


def permutation(size: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch."""
    generator = torch.Generator().manual_seed(mix(seed, epoch))
    return torch.randperm(size, generator=generator).tolist()
