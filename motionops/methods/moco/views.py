"""What MoCo sees of a video: two clips from anywhere in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import motionops
from motionops.methods.moco.flags import MoCoConfig
from motionops.training.data.videos import TrainingVideos
from motionops.video import VideoDataset
from motionops.views.frames import of_each
from motionops.views.random_windows import random_windows

QUERY, KEY = 0, 1


def make_dataset(config: MoCoConfig, videos: TrainingVideos) -> VideoDataset:
    """Two windows of each video, and how a clip is cut out of each."""
    windows, draw = random_windows(2, config.window()), DrawClips(config)
    return VideoDataset(videos.usable, windows, config.seed, draw, cache_bytes=int(config.cache_gib * 2**30))


class DrawClips:
    """Where the two clips of a video are cut out of their windows, and how they look."""

    def __init__(self, config: MoCoConfig) -> None:
        self.config = config

    def __call__(self, numbers: Tensor, picture: tuple[int, int], generator: torch.Generator) -> dict[str, Any]:
        c, (height, width) = self.config, picture
        extents = motionops.sample_extents(
            2,
            frames=c.frames,
            stride=c.stride,
            frame_count=int(numbers.max()) + 1,
            starts=numbers[:, 0],
            height=height,
            width=width,
            scale=c.crop_area,
            generator=generator,
        )
        return {"extents": extents, "appearance": c.look(2, generator)}


def cut(config: MoCoConfig, batch: dict[str, Any], view: int) -> Tensor:
    """A view of each video of a batch as a clip `[B, 3, T, S, S]`."""
    frames = of_each(batch["frames"], view, slice(None, None, config.stride))
    where, look = batch["extents"][:, view], batch["appearance"][:, view]
    return motionops.augment_clips(frames, where, config.size, look, mean=config.mean, std=config.std)
