"""What Context-Motion Decoupling sees of a video: a clip, a key frame near it, and motion clips."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import motionops
from motionops.flow.clip_flow import clip_flow
from motionops.methods.context_motion.flags import ContextMotionConfig
from motionops.motion.coded_videos import CodedVideos
from motionops.motion.vector_clips import fill_key_frames, in_steps, vector_clips
from motionops.training.data.videos import TrainingVideos
from motionops.video import VideoDataset
from motionops.views.frames import Frames, changed, of_each

CLIP, KEY_FRAME = 0, 1  # places of their extents and appearances


def make_dataset(config: ContextMotionConfig, videos: TrainingVideos) -> VideoDataset:
    """A clip, a key frame and motion clips of each video."""
    return ContextMotionVideos(config, videos)


class ContextMotionVideos(CodedVideos):
    """A clip, a key frame near it and motion clips: one that is predicted, and others of the video as hard negatives.

    The clip starts anywhere where the motion that it predicts is still in the video. Hard negatives start anywhere
    where they share no frame with that motion, as far as there are such places, else anywhere but at its start. TV-L1
    motion is that of frames: each motion clip has one frame more, before its first.
    """

    def __init__(self, config: ContextMotionConfig, videos: TrainingVideos, **arguments: Any) -> None:
        self.config, self.mirror = config, 0.5
        super().__init__(
            videos.usable,
            cell=config.cell,
            key_frame=config.uses_context(),
            seed=config.seed,
            cache_bytes=int(config.cache_gib * 2**30),
            **arguments,
        )

    @property
    def reads_motion(self) -> bool:
        return self.config.uses_motion() and self.config.motion == "vectors"

    def split(self, numbers: Tensor) -> tuple[Tensor, int, Tensor]:
        c, (*_, lot) = self.config, numbers[0].tolist()
        row = numbers[:, :-1]
        if not self.reads_motion:
            return row, lot, row.new_empty((0, c.motion_frames))
        return row[:, : c.frames], lot, row[0, c.frames :].unflatten(0, (c.motion_clips(), c.motion_frames))

    def of_clip(self, frames: Tensor) -> Tensor:
        return frames[:, : self.config.frames]

    def choose_frames(self, index: int, frame_count: int, generator: torch.Generator) -> Tensor:
        """Numbers `[1, N]`: the clip's frames, each motion clip's, the predicted one first, and the key frame's lot."""
        c = self.config
        first = 1 if c.motion == "tvl1" and c.uses_motion() else 0  # frames before a motion clip
        # From the clip's first frame to that of the motion which it predicts.
        ahead = c.span() if c.period == "future" else (c.span() - c.motion_frames) // 2
        ends = [c.span(), ahead + c.motion_frames] if c.uses_motion() else [c.span()]
        begin = max(0, first - ahead) if c.uses_motion() else 0
        start = begin + int(torch.randint(frame_count - max(ends) - begin + 1, (), generator=generator))
        numbers = [start + c.stride * torch.arange(c.frames)]
        if c.uses_motion():
            starts = torch.tensor([start + ahead])
            if c.motion_clips() > 1:
                starts = torch.cat([starts, self.other_starts(start + ahead, first, frame_count, generator)])
            numbers.append((starts[:, None] + torch.arange(-first, c.motion_frames)).flatten())
        numbers.append(torch.randint(frame_count, (1,), generator=generator))
        return torch.cat(numbers)[None]

    def other_starts(self, own: int, first: int, frame_count: int, generator: torch.Generator) -> Tensor:
        """Starts of the hard negatives, different where there are enough places."""
        c = self.config
        possible = torch.arange(first, frame_count - c.motion_frames + 1)
        possible = possible[torch.randperm(len(possible), generator=generator)]
        distance = (possible - own).abs()
        apart, near = possible[distance >= c.motion_frames], possible[(distance > 0) & (distance < c.motion_frames)]
        order = torch.cat([apart, near])[: c.hard_negatives]
        return order.repeat(-(-c.hard_negatives // len(order)))[: c.hard_negatives]

    def describe(
        self, index: int, numbers: Tensor, picture: tuple[int, int], generator: torch.Generator
    ) -> dict[str, Any]:
        """Where clip and key frame are cut out, and how they look; the size of the picture."""
        c, (height, width) = self.config, picture
        extents = motionops.sample_extents(
            2,
            frames=1,  # the frames are chosen already; the extents' t rows are not looked at
            frame_count=1,
            height=height,
            width=width,
            scale=c.crop_area,
            mirror=self.mirror,
            generator=generator,
        )
        return {"extents": extents, "appearance": c.look(2, generator), "picture": torch.tensor(picture)}


def cut_clip(config: ContextMotionConfig, batch: dict[str, Any]) -> Tensor:
    """The clips as the V-network takes them, `[B, 3, T, S, S]`."""
    return _cut(config, batch, of_each(batch["frames"], 0, slice(config.frames)), CLIP)


def cut_key_frame(config: ContextMotionConfig, batch: dict[str, Any]) -> Tensor:
    """The key frames as the I-network takes them, `[B, 3, 1, S, S]`."""
    return _cut(config, batch, batch["key_frame"], KEY_FRAME)


def _cut(config: ContextMotionConfig, batch: dict[str, Any], frames: Frames, part: int) -> Tensor:
    where, look = batch["extents"][:, part], batch["appearance"][:, part]
    return motionops.augment_clips(frames, where, config.size, look, mean=config.mean, std=config.std)


def cut_motion(config: ContextMotionConfig, batch: dict[str, Any]) -> Tensor:
    """The motion clips `[B, K, 2, T, S, S]`, cut out where the clip is, in pixels of the clip a frame."""
    c, extents, clips = config, batch["extents"][:, CLIP], config.motion_clips()
    if c.motion == "tvl1":
        chosen = of_each(batch["frames"], 0, slice(c.frames, None))
        cut = motionops.augment_clips(chosen, extents, c.size, mean=0.0, std=1.0)
        cut = (255 * cut).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1)
        pairs = cut.unflatten(1, (clips, c.motion_frames + 1)).flatten(0, 1)
        flow = clip_flow(pairs.contiguous())[:, :-1]  # the last frame has no following one
        return in_steps(flow.unflatten(0, (-1, clips)).transpose(2, 3), c.motion_steps)
    one_after_another = changed(known_motion(c, batch), lambda motion: motion.flatten(-5, -4))  # [B, K T, 2, h, w]
    cut = vector_clips(one_after_another, extents, c.size, batch["picture"], cell=c.cell)
    return in_steps(cut.unflatten(2, (clips, c.motion_frames)).transpose(1, 2), c.motion_steps)


def known_motion(config: ContextMotionConfig, batch: dict[str, Any]) -> Frames:
    """Motion vectors of the whole pictures, `[B, K, T, 2, h, w]`, as --fill-key-frames says."""
    if not config.fill_key_frames:
        return batch["motion"]
    motion, intra = batch["motion"], batch["intra"]
    if isinstance(motion, Tensor):
        return fill_key_frames(motion, intra)
    return [fill_key_frames(*each) for each in zip(motion, intra, strict=True)]
