"""What Controllable Augmentations sees of a video: a global view, local clips in it, and their intensity levels."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

import motionops
from motionops.methods.controllable.flags import ControllableConfig
from motionops.ranks import world
from motionops.training.data.videos import TrainingVideos
from motionops.video import VideoDataset
from motionops.views import local_extents, local_starts
from motionops.views.frames import of_each, views_apart

GLOBAL = 0  # the place of the global view in a batch
LOCAL = slice(1, None)  # those of the local clips


class Clips(NamedTuple):
    """The clips of a step: `view [B, 3, T, S, S]`, `local [B K, 3, T, S, S]`; their `levels [all videos, K]`."""

    view: Tensor | None
    local: Tensor
    levels: Tensor


def make_dataset(config: ControllableConfig, videos: TrainingVideos) -> VideoDataset:
    """A global view and K local clips of each video."""
    return ControllableVideos(config, videos)


class ControllableVideos(VideoDataset):
    """The frames of a video's global view, spread over it evenly, and of its K local clips: `[K + 1, T, H, W, 3]`."""

    def __init__(self, config: ControllableConfig, videos: TrainingVideos) -> None:
        self.config = config
        self.total = 0
        super().__init__(videos.usable, seed=config.seed, cache_bytes=int(config.cache_gib * 2**30))

    def choose_frames(self, index: int, frame_count: int, generator: torch.Generator) -> Tensor:
        """Frames `[K + 1, T]` of a video of `frame_count` frames."""
        c = self.config
        self.total = frame_count
        spread = ((torch.arange(c.frames) + 0.5) * frame_count / c.frames).long()
        starts = local_starts(frame_count, c.clips, c.window(), generator=generator)
        return torch.cat([spread[None], starts[:, None] + torch.arange(c.frames) * c.stride])

    def describe(
        self, index: int, numbers: Tensor, picture: tuple[int, int], generator: torch.Generator
    ) -> dict[str, Any]:
        """Where the views are cut out: extents `[K + 1, 3, 2]`, the global one first."""
        c, (height, width) = self.config, picture
        shape = {"height": height, "width": width, "mirror": c.mirror, "generator": generator}
        view = motionops.sample_extents(1, frames=1, frame_count=1, scale=c.global_crop_area, **shape)
        view[0, 0] = torch.tensor([0.0, self.total])
        local = local_extents(view[0], numbers[1:, 0], frames=c.frames, stride=c.stride, scale=c.crop_area, **shape)
        return {"extents": torch.cat([view, local])}


def cut(config: ControllableConfig, batch: dict[str, Any], generator: torch.Generator) -> Clips:
    """Cut the views out of the batch's frames, in the colours of this step's intensity levels.

    Levels are drawn for all ranks, from a generator in the same state on each: how many there are changes nothing.
    """
    c, frames, extents = config, batch["frames"], batch["extents"]
    (rank, ranks), size, views = world(), len(frames), config.clips + 1
    levels = c.levels()
    drawn = torch.randperm(levels.count, generator=generator)[: c.drawn_levels]
    chosen = drawn[torch.randint(len(drawn), (ranks * size * views,), generator=generator)]
    looks = levels.appearance(chosen, generator)
    own = looks.map(lambda field: field.unflatten(0, (-1, views)))[rank * size : (rank + 1) * size]

    def clips(which: slice) -> Tensor:
        look = own[:, which].map(lambda field: field.flatten(0, 1)).to(extents.device)
        parts, where = views_apart(of_each(frames, which)), extents[:, which].flatten(0, 1)
        return motionops.augment_clips(parts, where, c.size, look, mean=c.mean, std=c.std)

    view = clips(slice(GLOBAL, GLOBAL + 1)) if c.uses_global() else None
    return Clips(view, clips(LOCAL), chosen.unflatten(0, (-1, views))[:, LOCAL])
