"""Clips with what their file's codec knows: key frames and motion vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from motionops.motion.motion_vectors import coded_clip
from motionops.video import VideoDataset, key_frame_numbers
from motionops.video.reading import fits_memory


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


class CodedVideos(VideoDataset):
    """A data set whose items hold a key frame and motion-vector maps beside their frames, from one decode.

    A subclass chooses frames as numbers `[1, N]`; :meth:`split` says which are of frames and which of motion, and which
    is the lot: any frame's, drawn to choose among the key frames. An item holds, beside what
    :class:`~motionops.video.VideoDataset` says:

    * `frames`: uint8 `[1, T, H, W, 3]`
    * `key_frame`: uint8 `[1, H, W, 3]`, if asked for: a random one of those in the clip and next before and after it
      ("a random I-frame surrounding the clip"; without any, the video's first frame)
    * `motion`: float32 `[K, M, 2, h, w]`, pixels a frame, if there is any: the video has K x M numbers of motion; and
      `intra`: bool `[K, M]`, which of them are I-frames, that are coded without vectors

    Where a frame is the last one, held behind the end of a short video, nothing moves.

    Args:
        videos: as of :class:`~motionops.video.VideoDataset`.
        cell: side of the motion's cells in pixels.
        key_frame: whether items hold a key frame.
        arguments: those of :class:`~motionops.video.VideoDataset`.
    """

    def __init__(self, videos, *, cell: int = 8, key_frame: bool = True, **arguments) -> None:
        self.cell, self.key_frame = cell, key_frame
        super().__init__(videos, **arguments)

    def split(self, numbers: Tensor) -> tuple[Tensor, int, Tensor]:
        """`[1, N]` numbers as those of frames `[1, T]`, the lot, and those of motion `[K, M]`, K = 0 without."""
        raise NotImplementedError

    def of_clip(self, frames: Tensor) -> Tensor:
        """Of the frames' numbers those that the key frame is near to; by default all."""
        return frames

    @property
    def reads_motion(self) -> bool:
        """Whether items hold motion."""
        raise NotImplementedError

    def read_whole(self, index: int, most_bytes: int) -> CodedVideo | None:
        if not fits_memory(self.path(index), int(self.frame_counts[index]), most_bytes):
            return None
        everything = torch.arange(self.frame_count(index))
        moving = everything if self.reads_motion else everything[:0]
        clip, intra = coded_clip(self.path(index), everything, moving, cell=self.cell)
        keys = key_frame_numbers(self.path(index)) if self.key_frame else everything[:0]
        return CodedVideo(clip.frames, clip.motion, intra, keys)

    def read(self, index: int, numbers: Tensor, whole: CodedVideo | None) -> dict[str, Any]:
        frames, lot, motion = self.split(numbers)
        clip_frames = self.of_clip(frames)
        count = self.frame_count(index) if whole is None else len(whole)
        share, first, last = lot / count, int(clip_frames.min()), int(clip_frames.max())
        if whole is None:
            clip, intra = coded_clip(
                self.path(index), frames, motion, cell=self.cell, key=(share, first, last) if self.key_frame else None
            )
            item, vectors = {"frames": clip.frames}, clip.motion
            key_frame = clip.key_frame[None]
        else:
            # NumPy copies on this thread; torch would wake all of its threads for a few hundred kilobytes.
            item = {"frames": torch.from_numpy(whole.frames.numpy()[frames.numpy()])}
            if self.key_frame:
                around = key_frames_around(whole.key_frames, first, last)
                key = int(around[int(share * len(around))])
                key_frame = whole.frames[key : key + 1].clone()
            if self.reads_motion:
                vectors = torch.from_numpy(whole.motion.numpy()[motion.numpy()])
                intra = torch.from_numpy(whole.intra.numpy()[motion.numpy()])
        if self.key_frame:
            item["key_frame"] = key_frame
        if self.reads_motion:
            held = motion.diff(dim=1, prepend=motion[:, :1] - 1) == 0
            vectors[held] = 0.0
            item |= {"motion": vectors, "intra": intra & ~held}
        return item


def key_frames_around(keys: Tensor, first: int, last: int) -> Tensor:
    """Of rising numbers of key frames those in first..last, the last one before and the first one behind; at least one.

    Before the first key frame the video's first frame stands for one.
    """
    if not len(keys) or keys[0] > first:
        keys = torch.cat([keys.new_zeros(1), keys])
    begin = int((keys <= first).sum()) - 1
    return keys[begin : int((keys < last).sum()) + 1]
