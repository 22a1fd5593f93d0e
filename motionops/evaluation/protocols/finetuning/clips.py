"""What a supervised training sees of a video."""

from __future__ import annotations

import torch
from torch import Tensor

import motionops
from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
from motionops.training.data.videos import TrainingVideos
from motionops.video import KnownVideo, Plan, VideoDataset
from motionops.views.even_clips import hold_last, segment_frames


class DrawClip:
    """What is drawn of a video: the frames of a clip, where it is cut out of them, and how it looks."""

    def __init__(self, config: FinetuneConfig) -> None:
        self.config = config

    def frames(self, length: int, generator: torch.Generator) -> Tensor:
        """``[1, T]`` at a random place, the last frame held where the video is too short; or one of each segment."""
        c = self.config
        if c.sampling == "segments":
            return segment_frames(length, c.frames, generator)[None]
        span = (c.frames - 1) * c.stride + 1
        start = int(torch.randint(max(length - span, 0) + 1, (), generator=generator))
        return hold_last(start + c.stride * torch.arange(c.frames), length)[None]

    def __call__(self, video: KnownVideo, generator: torch.Generator) -> Plan:
        c, numbers = self.config, self.frames(video.frames, generator)
        extents = motionops.sample_extents(
            1,
            frames=1,  # the frames are chosen already; the extent's t row is not looked at
            frame_count=1,
            height=video.height,
            width=video.width,
            scale=c.crop_area,
            mirror=c.mirror,
            generator=generator,
        )
        return Plan(numbers, extents[0], c.look(1, generator)[0], cuts=[[0]])


def make_dataset(config: FinetuneConfig, videos: TrainingVideos) -> VideoDataset:
    """One clip of each video, as ``DrawClip`` draws it."""
    return config.dataset(videos, DrawClip(config), classes=config.classes)
