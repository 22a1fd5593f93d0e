"""Windows of a video's frames at random starts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from motionops.views.host import on_the_cpu


def random_windows(count: int, window: int) -> Callable[[int, torch.Generator], torch.Tensor]:
    """A `sample` for `VideoDataset`: `count` windows of `window` frames at random starts, different where enough.

    Returns:
        `(frame_count, generator) -> int64 [count, window]`.
    """
    return partial(_windows, count, window)  # which other processes can be sent, a function in here cannot


@on_the_cpu
def _windows(count: int, window: int, frame_count: int, generator: torch.Generator) -> torch.Tensor:
    possible = frame_count - window + 1
    starts = torch.randperm(possible, generator=generator)[:count]
    starts = starts.repeat(-(-count // len(starts)))[:count]
    return starts[:, None] + torch.arange(window)
