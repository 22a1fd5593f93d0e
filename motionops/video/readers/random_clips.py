"""Clips of a video from anywhere in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from motionops.video.readers.batch import KnownVideo, Plan
from motionops.views.appearance import Appearance
from motionops.views.extents import sample_extents
from motionops.views.random_windows import random_windows


def drawn_looks(count: int, generator: torch.Generator) -> Appearance:
    """Appearances as :meth:`Appearance.sample` draws them unless it is told otherwise."""
    return Appearance.sample(count, generator=generator)


@dataclass(frozen=True)
class RandomClips:
    """A plan of a :class:`VideoDataset`: clips at random places in time and space, each with a look of its own.

    Attributes:
        count: V, clips of a video; they start at different frames where there are enough.
        frames: T, of a clip.
        stride: source frames from one of them to the next.
        scale: smallest and largest share of the picture that a clip shows.
        look: ``(count, generator) -> Appearance``.
        cut: whether nothing but these clips is looked at: readers then send no more of the pictures.
    """

    count: int
    frames: int
    stride: int = 1
    scale: tuple[float, float] = (0.2, 1.0)
    look: Callable[[int, torch.Generator], Appearance] = drawn_looks
    cut: bool = False

    def __call__(self, video: KnownVideo, generator: torch.Generator) -> Plan:
        """What is drawn of a video: frames ``[V, T]``, extents ``[V, 3, 2]`` and appearances of the clips."""
        windows = random_windows(self.count, self.frames * self.stride)(video.frames, generator)
        extents = sample_extents(
            self.count,
            frames=self.frames,
            stride=self.stride,
            frame_count=video.frames,
            starts=windows[:, 0],
            height=video.height,
            width=video.width,
            scale=self.scale,
            generator=generator,
        )
        cuts = [[number] for number in range(self.count)] if self.cut else None
        return Plan(windows[:, :: self.stride], extents, self.look(self.count, generator), cuts=cuts)
