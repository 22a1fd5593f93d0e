"""Which videos make up which batch: a function of seed and step, so that a run can be cut and continued anywhere."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sized

import torch
from torch.utils.data import Sampler

from motionops import ranks
from motionops.seeds import mix


class VideoBatchSampler(Sampler):
    """The ``batch_sampler`` of a DataLoader over a :class:`VideoDataset`: lists of (epoch, index).

    Every epoch is a permutation that depends on (seed, epoch) alone; its last videos that fill no batch are left out.
    With several ranks each gets a contiguous share of every batch: the ranks together see what one process would. A
    share may come in several parts, one after another.

    One pass is an epoch, that of :meth:`set_epoch`; with ``steps`` it is all that is left of a run of so many steps,
    over as many epochs as it takes, and a loader's workers need not be started again between them.

    Args:
        videos: their number, or the data set.
        batch_size: videos a step over all ranks; a multiple of ``world * parts``, at most ``videos``.
        seed: of the order.
        steps: steps of the whole run; None: a pass is an epoch.
        first_step: steps of the run that are done already.
        rank, world: this process among how many; by default those of ``torch.distributed``.
        parts: parts of a step, of ``batch_size / (world * parts)`` videos each, for gradients that are accumulated.

    Attributes:
        steps_per_epoch: steps of an epoch: ``set_epoch(*divmod(done, steps_per_epoch))`` continues after ``done``
            steps.

    Raises:
        ValueError: sizes that do not fit.

    Warns:
        UserWarning: a pass begins where an earlier one did: its clips would be the same.
    """

    def __init__(
        self,
        videos: int | Sized,
        batch_size: int,
        *,
        seed: int = 0,
        steps: int | None = None,
        first_step: int = 0,
        rank: int | None = None,
        world: int | None = None,
        parts: int = 1,
    ) -> None:
        videos = len(videos) if isinstance(videos, Sized) else int(videos)
        here, all_of_us = ranks.world()
        rank, world = here if rank is None else rank, all_of_us if world is None else world
        if not 0 <= rank < world:
            raise ValueError(f"VideoBatchSampler: rank must be in [0, world={world}), got {rank}")
        if parts < 1 or batch_size < 1 or batch_size > videos or batch_size % (world * parts):
            raise ValueError(
                f"VideoBatchSampler: batch_size must be a multiple of world={world} times parts={parts} and at most "
                f"videos={videos}, got {batch_size}"
            )
        if first_step < 0 or (steps is None and first_step):
            raise ValueError(
                f"VideoBatchSampler: first_step must be >= 0 and goes with steps, got first_step={first_step}, "
                f"steps={steps}; set_epoch begins inside of an epoch"
            )
        self.videos, self.batch_size, self.seed, self.steps = videos, batch_size, seed, steps
        self.rank, self.world, self.parts = rank, world, parts
        self.steps_per_epoch = videos // batch_size
        self._first = first_step
        self._begun: set[int] = set()  # the first steps of the passes so far

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        """The next pass is ``epoch``, as of torch's ``DistributedSampler``, without its first ``done`` steps.

        Raises:
            ValueError: there is no such step; the sampler is one of a whole run.
        """
        if self.steps is not None:
            raise ValueError("VideoBatchSampler: set_epoch is for passes of one epoch, and this has steps")
        if epoch < 0 or not 0 <= done < self.steps_per_epoch:
            raise ValueError(
                f"VideoBatchSampler: set_epoch takes epoch >= 0 and done in [0, {self.steps_per_epoch}), got "
                f"{epoch} and {done}"
            )
        self._first = epoch * self.steps_per_epoch + done

    def __len__(self) -> int:
        """Batches of a pass of this rank."""
        return max(self._end() - self._first, 0) * self.parts

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        if self._first in self._begun:
            further = "set_epoch names another epoch" if self.steps is None else "it is the whole of its run"
            warnings.warn(
                f"VideoBatchSampler: a second pass from step {self._first} on gives the same clips again; {further}",
                stacklevel=2,
            )
        self._begun.add(self._first)
        share = self.batch_size // self.world
        part = share // self.parts
        epoch, order = -1, []
        for step in range(self._first, self._end()):
            now, position = divmod(step, self.steps_per_epoch)
            if now != epoch:
                epoch, order = now, permutation(self.videos, self.seed, now)
            start = position * self.batch_size + self.rank * share
            for first in range(start, start + share, part):
                yield [(epoch, video) for video in order[first : first + part]]

    def _end(self) -> int:
        """The step behind the last one of a pass."""
        if self.steps is not None:
            return self.steps
        return (self._first // self.steps_per_epoch + 1) * self.steps_per_epoch


def permutation(size: int, seed: int, epoch: int) -> list[int]:
    """The order of an epoch."""
    generator = torch.Generator().manual_seed(mix(seed, epoch))
    return torch.randperm(size, generator=generator).tolist()
