"""What MoDist sees of a video: two visual clips, and two clips of its motion."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

import motionops
from motionops.methods.modist.flags import MoDistConfig
from motionops.methods.modist.moving_clips import choose_motion
from motionops.motion import EdgesFolder
from motionops.motion.find_or_prepare import find_or_prepare_edges
from motionops.motion.pair_motion import EDGE_MAX, PairFlow, network_input
from motionops.training.data.videos import TrainingVideos
from motionops.video import VideoDataset
from motionops.views.frames import of_each

JITTER = (0.4, 0.4, 0.4, 0.0)  # brightness, contrast, saturation; no hue (Section 4.1)


class Pair(NamedTuple):
    """A pathway's clips of a step, each `[B, 3, T, S, S]`."""

    query: Tensor
    key: Tensor


class Clips(NamedTuple):
    """The clips of a step; `motion` is None where there is no motion pathway.

    `moving [B]`: above gamma; on the CPU, where it decides how many rows go into the losses.
    """

    visual: Pair
    motion: Pair | None
    moving: Tensor


def make_dataset(config: MoDistConfig, videos: TrainingVideos) -> VideoDataset:
    """The videos with their flow edges, where they are read; those are computed first where they are not there yet."""
    edges = None
    if config.uses_prepared():
        edges = find_or_prepare_edges(config.prepared, videos.usable, config.size, config.flow_interval)
    return MoDistVideos(config, videos, edges)


class MoDistVideos(VideoDataset):
    """The frames of a video's visual clips and then those of its motion clips, as one row `frames [1, N, H, W, 3]`.

    A motion clip is its pairs of frames (t - interval, t), t = start + i * stride. With prepared edges an item has
    `edges` uint8 `[2, T, S, S]` and `moving` instead, and the clips are drawn from all those above gamma.
    """

    def __init__(self, config: MoDistConfig, videos: TrainingVideos, edges: EdgesFolder | None) -> None:
        super().__init__(videos.usable, seed=config.seed, cache_bytes=int(config.cache_gib * 2**30))
        self.config, self.folder = config, edges
        self.prepared: dict[str, Any] = {}

    def choose_frames(self, index: int, frame_count: int, generator: torch.Generator) -> Tensor:
        """Frames `[1, N]` of a video of `frame_count` frames."""
        c = self.config
        visual_span = (c.frames - 1) * c.stride + 1
        starts = different_starts(torch.arange(frame_count - visual_span + 1), 2, generator)
        motion = torch.empty(0, dtype=torch.int64)
        if c.uses_motion():
            times = torch.arange(c.motion_frames) * c.motion_stride
            span = int(times[-1]) + 1
            # Without jitter a start serves both kinds of clips.
            last = frame_count - (span if c.temporal_jitter else max(span, visual_span))
            possible = torch.arange(c.interval(), last + 1)
            if self.folder is not None:
                motion_starts = self.read_edges(self.path(index), possible, times, generator)
            else:
                motion_starts = different_starts(possible, c.motion_windows(), generator)
                later = motion_starts[:, None] + times
                motion = torch.stack([later - c.interval(), later], dim=2).flatten()
            if not c.temporal_jitter:
                starts = motion_starts.flip(0) if self.folder is not None else motion_starts
        visual = starts[:, None] + torch.arange(c.frames) * c.stride
        return torch.cat([visual.flatten(), motion])[None]

    def read_edges(self, path: str, possible: Tensor, times: Tensor, generator: torch.Generator) -> Tensor:
        """Keep two prepared motion clips above gamma for `describe`; their starts."""
        means = self.folder.means(path)
        above = possible
        if self.config.gamma:
            shown = (possible[:, None] + times).clamp(max=len(means) - 1)
            above = possible[means[shown].mean(dim=1) > EDGE_MAX * self.config.gamma]
        starts = different_starts(above if len(above) else possible, 2, generator)
        edges = self.folder.read(path, (starts[:, None] + times).clamp(max=len(means) - 1))
        self.prepared = {"edges": edges, "moving": int(len(above) > 0)}
        return starts

    def describe(
        self, index: int, numbers: Tensor, picture: tuple[int, int], generator: torch.Generator
    ) -> dict[str, Any]:
        """Where the two visual clips are cut out, and how they look; prepared motion clips."""
        c, (height, width) = self.config, picture
        extents = motionops.sample_extents(
            2,
            frames=1,
            frame_count=int(numbers.max()) + 1,
            height=height,
            width=width,
            scale=c.crop_area,
            generator=generator,
        )
        return {"extents": extents, "appearance": c.look(2, generator, jitter=JITTER), **self.prepared}


def different_starts(possible: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the possible starts in a random order, different where there are enough."""
    order = possible[torch.randperm(len(possible), generator=generator)[:count]]
    return order.repeat(-(-count // len(order)))[:count]


def cut(config: MoDistConfig, batch: dict[str, Any], pair_flow: PairFlow) -> Clips:
    """Cut the visual clips out of the batch's frames and change how they look; make the motion clips."""
    c, row = config, of_each(batch["frames"], 0)
    motion, moving = None, torch.ones(len(row), dtype=torch.bool)
    chosen = torch.tensor([[0, 1]]).expand(len(row), 2)
    if "edges" in batch:
        edges = batch["edges"].float() * (EDGE_MAX / 255)
        motion = Pair(*(network_input(edges[:, None, i], c.motion) for i in range(2)))
        moving = torch.as_tensor(batch["moving"]).bool()
    elif c.uses_motion():
        clips, moving, chosen = choose_motion(c, row, pair_flow)
        motion = Pair(*clips)

    def visual(i: int) -> Tensor:
        # Without temporal jitter, [v^q, m^k] and [m^q, v^k] show the same moment; there is a clip a candidate.
        window = torch.full_like(chosen[:, 0], i) if c.temporal_jitter else chosen[:, 1 - i]
        frames = [video[w * c.frames : (w + 1) * c.frames] for video, w in zip(row, window.tolist(), strict=True)]
        look = batch["appearance"][:, i]
        return motionops.augment_clips(frames, batch["extents"][:, i], c.size, look, mean=c.mean, std=c.std)

    return Clips(Pair(visual(0), visual(1)), motion, moving)
