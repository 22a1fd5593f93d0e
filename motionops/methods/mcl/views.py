"""What MCL sees of a video: clips that start where it moves, and views of them cut where they move (Section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

import motionops
from motionops.flow.clip_flow import clip_flow
from motionops.methods.mcl.flags import MCLConfig
from motionops.motion import MotionFile
from motionops.motion.find_or_prepare import find_or_prepare
from motionops.training.data.first_process import found_on_each_machine
from motionops.training.data.videos import TrainingVideos
from motionops.video import Batch, KnownVideo, Plan, VideoDataset
from motionops.views import motion_starts
from motionops.views.crop_map import crop_map
from motionops.views.frames import Frames, of_each
from motionops.views.random_windows import random_windows

QUERY = 0  # the view that is aligned with motion; the others are keys


def make_dataset(config: MCLConfig, videos: TrainingVideos, grid: tuple[int, int, int] | None = None) -> VideoDataset:
    """The videos with their motion, which is computed first where it is not there yet."""
    motion = None
    if config.prepared():
        motion = find_or_prepare(config.motion_file, videos.usable, config.motion_side, found_on_each_machine)
    return config.dataset(videos, DrawViews(config, motion, grid))


class Moving(NamedTuple):
    """What a plan has beside extents and appearance: for the alignment, `motion [T', H', W']` of the query's cells; or,
    where motion is computed in the step, the `seed` with which it places the views."""

    motion: Tensor | None = None
    seed: int | None = None


class DrawViews:
    """What is drawn of a video: clips where it moves, how they look, and where views of them are cut."""

    def __init__(self, config: MCLConfig, motion: MotionFile | None, grid: tuple[int, int, int] | None = None) -> None:
        """`grid`: of the cells of the feature map; by default of that of the network which the flags name."""
        self.config, self.motion = config, motion
        self.grid = config.map_shape() if grid is None and config.aligns() else grid

    def __call__(self, video: KnownVideo, generator: torch.Generator) -> Plan:
        c, maps = self.config, None if self.motion is None else self.motion.read(video.path)  # [F, h, w]
        numbers = self.clips(video, maps, generator)
        plan = Plan(numbers, appearance=c.look(len(c.views()), generator))
        if c.on_the_fly():
            plan.own = Moving(seed=int(torch.randint(2**62, (), generator=generator)))
            return plan
        motion = None if maps is None else maps[numbers.clamp(max=len(maps) - 1)]  # [N, T, h, w]
        s_motion = None if motion is None else motion.mean(dim=1)
        plan.extents = place_views(c, numbers[:, 0], (video.height, video.width), s_motion, generator)
        plan.cuts = [[view for view, clip in enumerate(c.views()) if clip == n] for n in range(len(numbers))]
        if c.aligns():
            plan.own = Moving(crop_map(motion[c.views()[QUERY], None], plan.extents[QUERY, None], self.grid)[0])
        return plan

    def clips(self, video: KnownVideo, maps: Tensor | None, generator: torch.Generator) -> Tensor:
        """The frames `[N, T]` of clips; `maps` are the motion of all frames."""
        c, count = self.config, max(self.config.views()) + 1
        sampled = float(torch.rand((), generator=generator)) < c.temporal_probability
        if maps is not None and c.temporal_sampling and sampled:
            frame_motion = maps[torch.arange(video.frames).clamp(max=len(maps) - 1)].mean(dim=(1, 2))
            starts = motion_starts(frame_motion, span=c.window(), count=count, generator=generator)
        else:
            starts = random_windows(count, c.window())(video.frames, generator)[:, 0]
        if c.seco:  # the query comes before the two others, or after them
            starts = starts.sort().values
            starts = starts.roll(int(torch.randint(2, (), generator=generator)))
        step = 1 if c.on_the_fly() else c.stride
        return starts[:, None] + torch.arange(0, c.window(), step)


def place_views(
    config: MCLConfig, starts: Tensor, picture: tuple[int, int], motion: Tensor | None, generator: torch.Generator
) -> Tensor:
    """Where a video's views are cut: extents `[V, 3, 2]`; `starts [N]` and S-motion `[N, h, w]` are of its clips."""
    of_view = config.views()
    options = {"frames": config.frames, "stride": config.stride, "height": picture[0], "width": picture[1]}
    options |= {"scale": config.crop_area, "generator": generator}
    if motion is None or not config.crops():
        count = int(starts.max()) + config.window()
        return motionops.sample_extents(len(of_view), frame_count=count, starts=starts[of_view], **options)
    return motionops.motion_extents(
        motion[of_view],
        starts=starts[of_view],
        quantile=config.crop_quantile,
        coverage=config.crop_coverage,
        form=config.crop_form,
        probability=config.crop_probability,
        **options,
    )


def tubelets(config: MCLConfig, batch: Batch, grid: tuple[int, int, int]) -> tuple[Tensor, Tensor | None]:
    """Where the views are cut, `[B, V, 3, 2]`, and the motion of the query's cells, `[B, T', H', W']`.

    With prepared motion the reader has seen to both. `grid` is (T', H', W').
    """
    c = config
    if not c.on_the_fly():
        return batch.extents, batch.own.motion if c.aligns() else None
    extents, cells = [], []
    every = zip(clip_motion(c, batch.frames), batch.starts, batch.own.seed, strict=True)
    for motion, starts, seed in every:
        generator = torch.Generator().manual_seed(int(seed))
        own = place_views(c, starts.cpu(), tuple(motion.shape[-2:]), motion.mean(dim=1).cpu(), generator)
        own = own.to(motion.device)
        extents.append(own)
        if c.aligns():
            cells.append(crop_map(motion[c.views()[QUERY], None], own[QUERY, None], grid))
    return torch.stack(extents), torch.cat(cells) if cells else None


@torch.no_grad()
def clip_motion(config: MCLConfig, frames: Frames) -> list[Tensor]:
    """Motion maps (Eq. 1) of the clips' frames, each frame with the one that follows it: B of `[N, T, H, W]`."""
    if isinstance(frames, list) and len({video.shape for video in frames}) > 1:
        return [clip_motion(config, [video])[0] for video in frames]
    windows = frames if isinstance(frames, Tensor) else torch.stack(frames)  # [B, N, frames * stride, H, W, 3]
    stride = config.stride
    if stride == 1:
        flow = clip_flow(windows.flatten(0, 1))
    else:
        pairs = torch.stack([windows[:, :, ::stride], windows[:, :, 1::stride]], dim=3)
        flow = clip_flow(pairs.flatten(0, 2))[:, 0].unflatten(0, (-1, config.frames))
    return list(motionops.motion_map(flow).unflatten(0, windows.shape[:2]))


def view_frames(config: MCLConfig, frames: Frames) -> list[Frames]:
    """The frames of each view: uint8 `[B, T, H, W, 3]`, or a list where videos differ in size."""
    step = config.stride if config.on_the_fly() else 1
    return [of_each(frames, clip, slice(None, None, step)) for clip in config.views()]


def cut(config: MCLConfig, batch: Batch, extents: Tensor) -> list[Tensor]:
    """Cut the views out of the batch's frames, and change how they look."""
    return [
        motionops.augment_clips(frames, extents[:, view], config.size, batch.appearance[:, view], **config.colours())
        for view, frames in enumerate(view_frames(config, batch.frames))
    ]
