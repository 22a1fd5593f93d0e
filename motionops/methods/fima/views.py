"""What FIMA sees of a video: two views, their frame differences, and the differences of their parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

import motionops
from motionops.methods.fima.flags import FIMAConfig
from motionops.training.data.videos import TrainingVideos
from motionops.video import Batch, KnownVideo, Plan, VideoDataset
from motionops.views.random_windows import random_windows

VIEWS = 2


class Clips(NamedTuple):
    """The clips of a step, for each view: the RGB clip, its frame difference, and the differences of its parts."""

    rgb: list[Tensor]
    difference: list[Tensor]
    parts: list[list[Tensor]]

    def each(self, function: Callable[[Tensor, int, int], Any]) -> Clips:
        """`function(clip, kind, number)` of every clip, in its place."""
        return Clips(
            [function(clip, 0, v) for v, clip in enumerate(self.rgb)],
            [function(clip, 1, v) for v, clip in enumerate(self.difference)],
            [[function(clip, 2 + v, i) for i, clip in enumerate(view)] for v, view in enumerate(self.parts)],
        )


def make_dataset(config: FIMAConfig, videos: TrainingVideos) -> VideoDataset:
    """Clips of two windows of frames * stride source frames of each video, at random starts."""
    return config.dataset(videos, DrawViews(config))


class DrawViews:
    """What is drawn of a video: the frames of its clips, where these are cut out, and how they look.

    Two windows are drawn first. Frames and extents are of the two RGB clips, each strided over its window, then of the
    parts of view 0 and of view 1; appearances of the two RGB clips, of their two differences, then of the parts. A
    difference is cut where its RGB clip is. Frames of parts that no loss looks at are left out.
    """

    def __init__(self, config: FIMAConfig) -> None:
        self.config = config

    def __call__(self, video: KnownVideo, generator: torch.Generator) -> Plan:
        c = self.config
        windows = random_windows(VIEWS, c.window())(video.frames, generator)
        starts = windows[:, 0]
        parts = (starts[:, None] + c.frames * torch.arange(c.stride)).flatten()
        extents = [
            motionops.sample_extents(
                len(begin),
                frames=c.frames,
                stride=stride,
                frame_count=video.frames,
                starts=begin,
                height=video.height,
                width=video.width,
                scale=c.crop_area,
                generator=generator,
            )
            for begin, stride in ((starts, c.stride), (parts, 1))
        ]
        frames = windows[:, :: c.stride]
        if "fra" in c.losses:
            frames = torch.cat([frames, parts[:, None] + torch.arange(c.frames)])
        look = c.look(2 * VIEWS + len(parts), generator)
        return Plan(frames, torch.cat(extents), look, cuts=[[number] for number in range(len(frames))])


def cut(config: FIMAConfig, batch: Batch) -> Clips:
    """Cut the views out of the batch's frames, and change how they look; differences are taken in between."""
    c, clips = config, Clips([], [], [])

    def clip(number: int, look: int, difference: bool) -> Tensor:
        return motionops.augment_clips(
            batch.view(number),
            batch.extents[:, number],
            c.size,
            batch.appearance[:, look],
            difference=difference,
            **c.colours(),
        )

    for v in range(VIEWS):
        clips.rgb.append(clip(v, v, difference=False))
        if {"pix", "vd"} & set(c.losses):
            clips.difference.append(clip(v, VIEWS + v, difference=True))
        if "fra" in c.losses:
            first = VIEWS + v * c.stride
            clips.parts.append([clip(first + i, VIEWS + first + i, difference=True) for i in range(c.stride)])
    return clips


def cut_plain(config: FIMAConfig, batch: Batch) -> list[Tensor]:
    """The RGB clips of both views as they were cut, values in 0..1, `[B, 3, T, S, S]`."""
    return [
        motionops.augment_clips(batch.view(v), batch.extents[:, v], config.size, mean=0.0, std=1.0)
        for v in range(VIEWS)
    ]
