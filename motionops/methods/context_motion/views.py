"""What Context-Motion Decoupling sees of a video: a clip, a key frame near it, and motion clips."""

from __future__ import annotations

import torch
from torch import Tensor

import motionops
from motionops.flow.clip_flow import clip_flow
from motionops.methods.context_motion.flags import ContextMotionConfig
from motionops.motion.coded_videos import CodedReader, Wanted
from motionops.motion.vector_clips import fill_key_frames, in_steps, vector_clips
from motionops.training.data.videos import TrainingVideos
from motionops.video import Batch, KnownVideo, Plan, VideoDataset
from motionops.views.frames import Frames, changed, of_each

CLIP, KEY_FRAME = 0, 1  # places of their extents and appearances


def make_dataset(config: ContextMotionConfig, videos: TrainingVideos) -> VideoDataset:
    """A clip, a key frame and motion clips of each video."""
    return config.dataset(videos, DrawClips(config), reader=coded_reader(config))


def coded_reader(config: ContextMotionConfig) -> CodedReader:
    """Reads what the losses need of a file."""
    return CodedReader(cell=config.cell, key_frame=config.uses_context(), motion=config.reads_vectors())


class DrawClips:
    """What is drawn of a video: a clip, the lot of a key frame near it, and motion clips: one that is predicted, and
    others of the video as hard negatives; where clip and key frame are cut out, and how they look.

    The clip starts anywhere where the motion that it predicts is still in the video. Hard negatives start anywhere
    where they share no frame with that motion, as far as there are such places, else anywhere but at its start. TV-L1
    motion is that of frames: each motion clip has one frame more, before its first.
    """

    def __init__(self, config: ContextMotionConfig, mirror: float = 0.5) -> None:
        self.config, self.mirror = config, mirror

    def __call__(self, video: KnownVideo, generator: torch.Generator) -> Plan:
        c = self.config
        clip, motion = self.clips(video.frames, generator)
        lot = int(torch.randint(video.frames, (1,), generator=generator))
        extents = motionops.sample_extents(
            2,
            frames=1,  # the frames are chosen already; the extents' t rows are not looked at
            frame_count=1,
            height=video.height,
            width=video.width,
            scale=c.crop_area,
            mirror=self.mirror,
            generator=generator,
        )
        numbers = clip if c.reads_vectors() else torch.cat([clip, motion.flatten()])
        read = motion if c.reads_vectors() else motion[:0]
        wanted = Wanted(read, lot, c.frames, key_cut=KEY_FRAME)
        return Plan(numbers[None], extents, c.look(2, generator), wanted, cuts=[[CLIP]])

    def clips(self, frame_count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Numbers of the clip's frames, and `[K, M]` of each motion clip's, the predicted one first."""
        c = self.config
        first = 1 if c.motion == "tvl1" and c.uses_motion() else 0  # frames before a motion clip
        # From the clip's first frame to that of the motion which it predicts.
        ahead = c.span() if c.period == "future" else (c.span() - c.motion_frames) // 2
        ends = [c.span(), ahead + c.motion_frames] if c.uses_motion() else [c.span()]
        begin = max(0, first - ahead) if c.uses_motion() else 0
        start = begin + int(torch.randint(frame_count - max(ends) - begin + 1, (), generator=generator))
        clip = start + c.stride * torch.arange(c.frames)
        if not c.uses_motion():
            return clip, clip.new_empty((0, c.motion_frames))
        starts = torch.tensor([start + ahead])
        if c.motion_clips() > 1:
            starts = torch.cat([starts, self.other_starts(start + ahead, first, frame_count, generator)])
        return clip, starts[:, None] + torch.arange(-first, c.motion_frames)

    def other_starts(self, own: int, first: int, frame_count: int, generator: torch.Generator) -> Tensor:
        """Starts of the hard negatives, different where there are enough places."""
        c = self.config
        possible = torch.arange(first, frame_count - c.motion_frames + 1)
        possible = possible[torch.randperm(len(possible), generator=generator)]
        distance = (possible - own).abs()
        apart, near = possible[distance >= c.motion_frames], possible[(distance > 0) & (distance < c.motion_frames)]
        order = torch.cat([apart, near])[: c.hard_negatives]
        return order.repeat(-(-c.hard_negatives // len(order)))[: c.hard_negatives]


def cut_clip(config: ContextMotionConfig, batch: Batch) -> Tensor:
    """The clips as the V-network takes them, `[B, 3, T, S, S]`."""
    return _cut(config, batch, batch.view(0, slice(config.frames)), CLIP)


def cut_key_frame(config: ContextMotionConfig, batch: Batch) -> Tensor:
    """The key frames as the I-network takes them, `[B, 3, 1, S, S]`."""
    return _cut(config, batch, of_each(batch.own.key_frame, 0), KEY_FRAME)


def _cut(config: ContextMotionConfig, batch: Batch, frames: Frames, part: int) -> Tensor:
    where, look = batch.extents[:, part], batch.appearance[:, part]
    return motionops.augment_clips(frames, where, config.size, look, **config.colours())


def cut_motion(config: ContextMotionConfig, batch: Batch, extents: Tensor) -> Tensor:
    """The motion clips `[B, K, 2, T, S, S]`, cut out where the clips are, in pixels of the clip a frame.

    `extents [B, 3, 2]` are those of the clips.
    """
    c, clips = config, config.motion_clips()
    if c.motion == "tvl1":
        chosen = batch.view(0, slice(c.frames, None))
        cut = motionops.augment_clips(chosen, extents, c.size, mean=0.0, std=1.0)
        cut = (255 * cut).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1)
        pairs = cut.unflatten(1, (clips, c.motion_frames + 1)).flatten(0, 1)
        flow = clip_flow(pairs.contiguous())[:, :-1]  # the last frame has no following one
        return in_steps(flow.unflatten(0, (-1, clips)).transpose(2, 3), c.motion_steps)
    one_after_another = changed(known_motion(c, batch), lambda motion: motion.flatten(-5, -4))  # [B, K T, 2, h, w]
    cut = vector_clips(one_after_another, extents, c.size, batch.picture, cell=c.cell)
    return in_steps(cut.unflatten(2, (clips, c.motion_frames)).transpose(1, 2), c.motion_steps)


def known_motion(config: ContextMotionConfig, batch: Batch) -> Frames:
    """Motion vectors of the whole pictures, `[B, K, T, 2, h, w]`, as --fill-key-frames says."""
    motion, intra = batch.own.motion, batch.own.intra
    if not config.fill_key_frames:
        return motion
    if isinstance(motion, Tensor):
        return fill_key_frames(motion, intra)
    return [fill_key_frames(*each) for each in zip(motion, intra, strict=True)]
