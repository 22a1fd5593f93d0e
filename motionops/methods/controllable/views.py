"""What Controllable Augmentations sees of a video: a global view, local clips in it, and their intensity levels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

import motionops
from motionops.methods.controllable.flags import ControllableConfig
from motionops.ranks import world
from motionops.training.data.videos import TrainingVideos
from motionops.video import Batch, KnownVideo, Plan, VideoDataset
from motionops.views import local_extents, local_starts
from motionops.views.frames import views_apart

GLOBAL = 0  # the place of the global view in a batch
LOCAL = slice(1, None)  # those of the local clips


class Clips(NamedTuple):
    """The clips of a step: `view [B, 3, T, S, S]`, `local [B K, 3, T, S, S]`; their `levels [all videos, K]`."""

    view: Tensor | None
    local: Tensor
    levels: Tensor


def make_dataset(config: ControllableConfig, videos: TrainingVideos) -> VideoDataset:
    """A global view and K local clips of each video."""
    return config.dataset(videos, DrawViews(config))


class DrawViews:
    """What is drawn of a video: the frames of its global view, spread over it evenly, and of its K local clips,
    `[K + 1, T]`, and where the views are cut out, `[K + 1, 3, 2]`."""

    def __init__(self, config: ControllableConfig) -> None:
        self.config = config

    def __call__(self, video: KnownVideo, generator: torch.Generator) -> Plan:
        c = self.config
        spread = ((torch.arange(c.frames) + 0.5) * video.frames / c.frames).long()
        starts = local_starts(video.frames, c.clips, frames=c.frames, stride=c.stride, generator=generator)
        shape = {"height": video.height, "width": video.width, "mirror": c.mirror, "generator": generator}
        view = motionops.sample_extents(1, frames=1, frame_count=1, scale=c.global_crop_area, **shape)
        view[0, 0] = torch.tensor([0.0, video.frames])
        local = local_extents(view[0], starts, frames=c.frames, stride=c.stride, scale=c.crop_area, **shape)
        numbers = torch.cat([spread[None], starts[:, None] + torch.arange(c.frames) * c.stride])
        return Plan(numbers, torch.cat([view, local]), cuts=[[number] for number in range(len(numbers))])


def cut(config: ControllableConfig, batch: Batch, generator: torch.Generator) -> Clips:
    """Cut the views out of the batch's frames, in the colours of this step's intensity levels.

    Levels are drawn for all ranks, from a generator in the same state on each: how many there are changes nothing.
    """
    c, extents = config, batch.extents
    (rank, ranks), size, views = world(), len(batch), config.clips + 1
    levels = c.levels()
    drawn = torch.randperm(levels.count, generator=generator)[: c.drawn_levels]
    chosen = drawn[torch.randint(len(drawn), (ranks * size * views,), generator=generator)]
    looks = levels.appearance(chosen, generator)
    own = looks.map(lambda field: field.unflatten(0, (-1, views)))[rank * size : (rank + 1) * size]

    def clips(which: slice) -> Tensor:
        look = own[:, which].map(lambda field: field.flatten(0, 1)).to(extents.device)
        parts, where = views_apart(batch.view(which)), extents[:, which].flatten(0, 1)
        return motionops.augment_clips(parts, where, c.size, look, **c.colours())

    view = clips(slice(GLOBAL, GLOBAL + 1)) if c.uses_global() else None
    return Clips(view, clips(LOCAL), chosen.unflatten(0, (-1, views))[:, LOCAL])
