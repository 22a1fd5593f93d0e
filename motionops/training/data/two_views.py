"""What a method sees of a video unless it says otherwise."""

from __future__ import annotations

from motionops.training.data.manifest import TrainingVideos
from motionops.training.shared_flags import Look
from motionops.video import RandomClips, VideoDataset


def two_views(config: Look, videos: TrainingVideos) -> VideoDataset:
    """Two clips of each video, from anywhere in it, and nothing else of its pictures."""
    plan = RandomClips(2, config.frames, config.stride, config.crop_area, config.look, cut=True)
    return config.dataset(videos, plan)
