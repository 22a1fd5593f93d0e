"""Frames of a batch of videos: one tensor where all are of one size, else a tensor each."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Frames = Tensor | list[Tensor]  # [B, ...], or B of [...]


def of_each(frames: Frames, *place) -> Frames:
    """What `place` indexes in each video of a batch: `frames[:, *place]`, whether the videos are stacked or not."""
    return frames[(slice(None), *place)] if isinstance(frames, Tensor) else [video[place] for video in frames]


def views_apart(frames: Frames) -> Frames:
    """The views of B videos, `[B, V, ...]`, as those of B V videos."""
    return frames.flatten(0, 1) if isinstance(frames, Tensor) else [view for video in frames for view in video]


def changed(frames: Frames, function: Callable[[Tensor], Tensor]) -> Frames:
    """`function` of all videos at once where they are stacked, else of each: one that counts axes from the end."""
    return function(frames) if isinstance(frames, Tensor) else [function(video) for video in frames]
