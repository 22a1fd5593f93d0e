"""What is read of a video's file."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from motionops.video.readers.batch import KnownVideo, Plan
from motionops.video.reading import read_frames, read_video_if_small


class FrameReader:
    """Reads frames. One that reads more of a file stands on it, and takes the place of a data set's ``reader``."""

    def whole(self, video: KnownVideo, most_bytes: int) -> Any | None:
        """A decoded video to be kept in memory, None where it would take more than so many bytes.

        It is what :meth:`read` gets again; its length is the number of frames, ``nbytes`` what it takes.
        """
        return read_video_if_small(video.path, video.frames, most_bytes)

    def read(self, video: KnownVideo, plan: Plan, whole: Any | None) -> tuple[Tensor, Any]:
        """``frames [V, T, H, W, 3]``, and what an item has as its ``own``.

        Args:
            video: whose ``frames`` are those of the file.
            plan: what was drawn; where a short video holds its last frame, some of its numbers lie behind the end.
            whole: what :meth:`whole` gave, where the video is kept in memory.
        """
        numbers = plan.frames.clamp(max=video.frames - 1)
        if whole is None:
            return read_frames(video.path, numbers), plan.own
        # NumPy copies on this thread; torch would wake all of its threads for a few hundred kilobytes.
        return torch.from_numpy(whole.numpy()[numbers.numpy()]), plan.own
