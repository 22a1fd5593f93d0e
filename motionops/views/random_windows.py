"""Windows of a video's frames at random starts."""

from __future__ import annotations

import torch

from motionops.views.host import on_the_cpu


def random_windows(count: int, window: int):
    """A `sample` for `VideoDataset`: `count` windows of `window` frames at random starts, different where enough.

    Returns:
        `(frame_count, generator) -> int64 [count, window]`.
    """

    @on_the_cpu
    def sample(frame_count: int, generator: torch.Generator) -> torch.Tensor:
        possible = frame_count - window + 1
        starts = torch.randperm(possible, generator=generator)[:count]
        starts = starts.repeat(-(-count // len(starts)))[:count]
        return starts[:, None] + torch.arange(window)

    return sample
