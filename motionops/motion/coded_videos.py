"""Clips with what their file's codec knows: key frames and motion vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from motionops.motion.motion_vectors import coded_clip
from motionops.video import FrameReader, KnownVideo, Plan, key_frame_numbers
from motionops.video.readers.cut_frames import CutFrames, CutVideo
from motionops.views.frames import Frames


@dataclass
class CodedVideo:
    """A whole video in memory: frames uint8 `[F, H, W, 3]`, motion float32 `[F, 2, h, w]`, which frames are I-frames,
    `[F]`, numbers of its key frames.

    Without motion, `motion` and `intra` are empty.
    """

    frames: Tensor
    motion: Tensor
    intra: Tensor
    key_frames: Tensor

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def nbytes(self) -> int:
        """Memory of the tensors."""
        return sum(part.nbytes for part in (self.frames, self.motion, self.intra, self.key_frames))


class Wanted(NamedTuple):
    """What a plan has as its own for a :class:`CodedReader`: the numbers `[K, M]` of the frames whose motion is read;
    the lot, any frame's number, by which one of the key frames is chosen; how many of the plan's frames are the clip
    that the key frame is near to; and which of the plan's extents is cut out of the key frame, where frames are cut."""

    motion: Tensor
    lot: int
    clip: int
    key_cut: int = 0


class Coded(NamedTuple):
    """What an item has as its own; None where it was not asked for.

    * `key_frame`: uint8 `[1, 1, H, W, 3]`, a view of one frame, cut where the plan's are: a random one of those in the
      clip and next before and after it ("a random I-frame surrounding the clip"; without any, the video's first frame)
    * `motion`: float32 `[K, M, 2, h, w]`, pixels a frame; where a frame is the last one, held behind the end of a short
      video, nothing moves
    * `intra`: bool `[K, M]`, which of them are I-frames, that are coded without vectors
    """

    key_frame: Tensor | CutVideo | CutFrames | None
    motion: Frames | None
    intra: Tensor | None


class CodedReader(FrameReader):
    """Reads a key frame and motion-vector maps beside the frames, from one decode.

    A plan has frames `[1, T]` and as its own a :class:`Wanted`; an item's own is a :class:`Coded`.

    Args:
        cell: side of the motion's cells in pixels.
        key_frame: whether a key frame is read.
        motion: whether motion is.
    """

    def __init__(self, *, cell: int = 8, key_frame: bool = True, motion: bool = True) -> None:
        self.cell, self.key_frame, self.motion = cell, key_frame, motion

    def whole(self, video: KnownVideo, most_bytes: int) -> CodedVideo:
        everything = torch.arange(video.frames)
        moving = everything if self.motion else everything[:0]
        clip, intra = coded_clip(video.path, everything, moving, cell=self.cell)
        keys = key_frame_numbers(video.path) if self.key_frame else everything[:0]
        return CodedVideo(clip.frames, clip.motion, intra, keys)

    def read(self, video: KnownVideo, plan: Plan, whole: CodedVideo | None) -> tuple[Tensor | CutVideo, Coded]:
        last = video.frames - 1
        frames, motion = plan.frames.clamp(max=last), plan.own.motion.clamp(max=last)
        clip_frames = frames[:, : plan.own.clip]
        share, first, end = min(plan.own.lot, last) / video.frames, int(clip_frames.min()), int(clip_frames.max())
        key_frame = vectors = intra = None
        if whole is None:
            key = (share, first, end) if self.key_frame else None
            distinct, places = torch.unique(frames, return_inverse=True)
            clip, intra = coded_clip(video.path, distinct, motion, cell=self.cell, key=key, keys=video.keys)
            pictures, vectors = self.views(clip.frames, places, plan), clip.motion
            if self.key_frame:
                key_frame = self.key(clip.key_frame[None], 0, plan)
        else:
            pictures = self.views(whole.frames, frames, plan)
            if self.key_frame:
                around = key_frames_around(whole.key_frames, first, end)
                key_frame = self.key(whole.frames, int(around[int(share * len(around))]), plan)
            if self.motion:
                vectors = torch.from_numpy(whole.motion.numpy()[motion.numpy()])
                intra = torch.from_numpy(whole.intra.numpy()[motion.numpy()])
        if not self.motion:
            return pictures, Coded(key_frame, None, None)
        held = motion.diff(dim=1, prepend=motion[:, :1] - 1) == 0
        vectors[held] = 0.0
        return pictures, Coded(key_frame, vectors, intra & ~held)

    def key(self, pictures: Tensor, place: int, plan: Plan) -> Tensor | CutVideo:
        """One of the pictures as a view of one frame."""
        cuts = None if plan.cuts is None else [[plan.own.key_cut]]
        return self.views(pictures, torch.tensor([[place]]), replace(plan, cuts=cuts))


def key_frames_around(keys: Tensor, first: int, last: int) -> Tensor:
    """Of rising numbers of key frames those in first..last, the last one before and the first one behind; at least one.

    Before the first key frame the video's first frame stands for one.
    """
    if not len(keys) or keys[0] > first:
        keys = torch.cat([keys.new_zeros(1), keys])
    begin = int((keys <= first).sum()) - 1
    return keys[begin : int((keys < last).sum()) + 1]
