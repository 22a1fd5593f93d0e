"""Clips with what their file's codec knows: key frames and motion vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from motionops.motion import read_coded_clip
from motionops.video import VideoDataset, key_frame_numbers
from motionops.video.reading import fits_memory


@dataclass
class CodedVideo:
    """A whole video in memory: frames uint8 `[F, H, W, 3]`, motion float32 `[F, 2, h, w]`, numbers of its key frames.

    Without motion, `motion` is empty.
    """

    frames: Tensor
    motion: Tensor
    key_frames: Tensor

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def nbytes(self) -> int:
        """Memory of the tensors."""
        return self.frames.nbytes + self.motion.nbytes + self.key_frames.nbytes


class CodedVideos(VideoDataset):
    """A data set whose items hold a key frame and motion-vector maps beside their frames, from one decode.

    A subclass chooses frames as numbers `[1, N]`; :meth:`split` says which are of frames and which of motion. An item
    holds, beside what :class:`~motionops.video.VideoDataset` says:

    * `frames`: uint8 `[1, T, H, W, 3]`
    * `key_frame`: uint8 `[1, H, W, 3]`, the last key frame at or before the first of the frames (without one, the
      video's first frame), if asked for
    * `motion`: float32 `[K, M, 2, h, w]`, pixels a frame, if there is any: the video has K x M numbers of motion

    Args:
        videos: as of `VideoDataset`.
        cell: side of the maps' cells in pixels.
        key_frame: whether items hold a key frame.
        arguments: of `VideoDataset`.
    """

    def __init__(self, videos, *, cell: int = 8, key_frame: bool = True, **arguments) -> None:
        self.cell, self.key_frame = cell, key_frame
        super().__init__(videos, **arguments)

    def split(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """`[1, N]` numbers as those of frames `[1, T]` and of motion `[K, M]` (K = 0: none)."""
        raise NotImplementedError

    @property
    def reads_motion(self) -> bool:
        """Whether items hold motion."""
        raise NotImplementedError

    def read_whole(self, index: int, most_bytes: int) -> CodedVideo | None:
        if not fits_memory(self.path(index), int(self.frame_counts[index]), most_bytes):
            return None
        everything = torch.arange(self.frame_count(index))
        clip = read_coded_clip(
            self.path(index), everything, everything if self.reads_motion else everything[:0], cell=self.cell
        )
        keys = key_frame_numbers(self.path(index)) if self.key_frame else everything[:0]
        return CodedVideo(clip.frames, clip.motion, keys)

    def read(self, index: int, numbers: Tensor, whole: CodedVideo | None) -> dict[str, Any]:
        frames, motion = self.split(numbers)
        if whole is None:
            clip = read_coded_clip(self.path(index), frames, motion, cell=self.cell)
            item = {"frames": clip.frames, "key_frame": clip.key_frame[None], "motion": clip.motion}
        else:
            # NumPy copies on this thread; torch would wake all of its threads for a few hundred kilobytes.
            item = {"frames": torch.from_numpy(whole.frames.numpy()[frames.numpy()])}
            if self.key_frame:
                before = whole.key_frames[whole.key_frames <= frames.min()]
                key = int(before[-1]) if len(before) else 0
                item["key_frame"] = whole.frames[key : key + 1].clone()
            if self.reads_motion:
                item["motion"] = torch.from_numpy(whole.motion.numpy()[motion.numpy()])
        if not self.key_frame:
            item.pop("key_frame", None)
        if not self.reads_motion:
            item.pop("motion", None)
        return item
