"""What MoDist sees of a video: two visual clips, and two clips of its motion."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

import motionops
from motionops.methods.modist.flags import MoDistConfig
from motionops.methods.modist.moving_clips import choose_motion
from motionops.motion import EdgesFolder
from motionops.motion.find_or_prepare import find_or_prepare_edges
from motionops.motion.pair_motion import EDGE_MAX, PairFlow, network_input
from motionops.training.data.first_process import found_on_each_machine
from motionops.training.data.videos import TrainingVideos
from motionops.video import Batch, KnownVideo, Plan, VideoDataset
from motionops.video.readers.squares import Squares

JITTER = (0.4, 0.4, 0.4, 0.0)  # brightness, contrast, saturation; no hue (Section 4.1)


class Pair(NamedTuple):
    """A pathway's clips of a step, each `[B, 3, T, S, S]`."""

    query: Tensor
    key: Tensor


class Clips(NamedTuple):
    """The clips of a step; `motion` is None where there is no motion pathway.

    Both on the CPU, where they decide how many rows go into the losses: `moving [B]`, above gamma; `paired [B]`, and
    with two motion clips that differ.
    """

    visual: Pair
    motion: Pair | None
    moving: Tensor
    paired: Tensor


def make_dataset(config: MoDistConfig, videos: TrainingVideos) -> VideoDataset:
    """The videos with their flow edges, where they are read; those are computed first where they are not there yet."""
    edges = None
    if config.uses_prepared():
        settings = config.size, config.flow_interval
        edges = find_or_prepare_edges(config.prepared, videos.usable, *settings, found_on_each_machine)
    return config.dataset(videos, DrawClips(config, edges))


class Prepared(NamedTuple):
    """Two motion clips of prepared edges, uint8 `[2, T, S, S]`, and whether they are above gamma."""

    edges: Tensor
    moving: int | Tensor | list[bool]


class DrawClips:
    """What is drawn of a video: the frames of its visual clips and then those of its motion clips, as one row `[1, N]`;
    where the visual clips are cut out, and how they look.

    A motion clip is its pairs of frames (t - interval, t), t = start + i * stride. With prepared edges a plan has two
    of these clips as its own instead, and they are drawn from all those above gamma.
    """

    def __init__(self, config: MoDistConfig, edges: EdgesFolder | None) -> None:
        self.config, self.folder = config, edges

    def __call__(self, video: KnownVideo, generator: torch.Generator) -> Plan:
        numbers, motion = self.clips(video, generator)
        extents = motionops.sample_extents(
            2,
            frames=1,
            frame_count=1,  # the frames are chosen already; the extents' t rows are not looked at
            height=video.height,
            width=video.width,
            scale=self.config.crop_area,
            generator=generator,
        )
        # Without temporal jitter the step says which of the clips is cut where.
        cuts = [[0], [1]] if self.config.temporal_jitter else [[0, 1]] * len(numbers)
        return Plan(numbers, extents, self.config.look(2, generator, jitter=JITTER), motion, cuts=cuts)

    def clips(self, video: KnownVideo, generator: torch.Generator) -> tuple[Tensor, Squares | Prepared | None]:
        """Frames `[V, T]` of the visual clips of a video, and those of its motion clips or prepared ones."""
        c, frame_count, motion = self.config, video.frames, None
        visual_span = (c.frames - 1) * c.stride + 1
        starts = different_starts(torch.arange(frame_count - visual_span + 1), 2, generator)
        if c.uses_motion():
            times = torch.arange(c.motion_frames) * c.motion_stride
            span = int(times[-1]) + 1
            # Without jitter a start serves both kinds of clips.
            last = frame_count - (span if c.temporal_jitter else max(span, visual_span))
            possible = torch.arange(c.interval(), last + 1)
            if self.folder is not None:
                motion_starts, motion = self.read_edges(video.path, possible, times, generator)
            else:
                motion_starts = different_starts(possible, c.motion_windows(), generator)
                later = motion_starts[:, None] + times
                pairs = torch.stack([later - c.interval(), later], dim=2)
                motion = Squares(pairs.flatten(), c.size, grey=c.grey_motion and c.uses_tvl1())
            if not c.temporal_jitter:
                starts = motion_starts.flip(0) if self.folder is not None else motion_starts
        return starts[:, None] + torch.arange(c.frames) * c.stride, motion

    def read_edges(
        self, path: str, possible: Tensor, times: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Prepared]:
        """The starts of two prepared motion clips above gamma, and the clips."""
        means = self.folder.means(path)
        above = possible
        if self.config.gamma:
            shown = (possible[:, None] + times).clamp(max=len(means) - 1)
            above = possible[means[shown].mean(dim=1) > EDGE_MAX * self.config.gamma]
        starts = different_starts(above if len(above) else possible, 2, generator)
        edges = self.folder.read(path, (starts[:, None] + times).clamp(max=len(means) - 1))
        return starts, Prepared(edges, int(len(above) > 0))


def different_starts(possible: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the possible starts in a random order, different where there are enough."""
    order = possible[torch.randperm(len(possible), generator=generator)[:count]]
    return order.repeat(-(-count // len(order)))[:count]


def cut(config: MoDistConfig, batch: Batch, pair_flow: PairFlow) -> Clips:
    """Cut the visual clips out of the batch's frames and change how they look; make the motion clips."""
    c, motion = config, None
    moving, chosen = torch.ones(len(batch), dtype=torch.bool), torch.tensor([[0, 1]]).expand(len(batch), 2)
    if isinstance(batch.own, Prepared):
        edges = batch.own.edges.float() * (EDGE_MAX / 255)
        motion = Pair(*(network_input(edges[:, None, i], c.motion) for i in range(2)))
        moving = torch.as_tensor(batch.own.moving).bool()
    elif c.uses_motion():
        clips, moving, chosen = choose_motion(c, batch.own, pair_flow)
        motion = Pair(*clips)

    def visual(i: int) -> Tensor:
        # Without temporal jitter, [v^q, m^k] and [m^q, v^k] show the same moment; there is a clip a candidate.
        window = torch.full_like(chosen[:, 0], i) if c.temporal_jitter else chosen[:, 1 - i]
        frames = [video[w] for video, w in zip(batch.frames, window.tolist(), strict=True)]
        return motionops.augment_clips(frames, batch.extents[:, i], c.size, batch.appearance[:, i], **c.colours())

    paired = moving
    if "m" in c.losses:  # of one clip above gamma, or one start, two copies: the network would have nothing to find
        paired = moving & (motion.query != motion.key).flatten(1).any(dim=1).cpu()
    return Clips(Pair(visual(0), visual(1)), motion, moving, paired)
