"""What is read of a video's file."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from motionops.video.readers.batch import KnownVideo, Plan
from motionops.video.readers.cut_frames import CutVideo, cut_out
from motionops.video.readers.squares import Squares, squares_of
from motionops.video.reading import read_frames, read_video_if_small


class FrameReader:
    """Reads frames. One that reads more of a file stands on it, and takes the place of a data set's ``reader``."""

    def whole(self, video: KnownVideo, most_bytes: int) -> Any | None:
        """A decoded video to be kept in memory; as many frames as are known take no more than so many bytes. None where
        there are more by now, and take more.

        It is what :meth:`read` gets again; its length is the number of frames, ``nbytes`` what it takes.
        """
        return read_video_if_small(video.path, video.frames, most_bytes)

    def read(self, video: KnownVideo, plan: Plan, whole: Any | None) -> tuple[Tensor | CutVideo, Any]:
        """``frames [V, T, H, W, 3]``, cut where the plan says what of them is looked at, and an item's ``own``.

        Args:
            video: whose ``frames`` are those of the file.
            plan: what was drawn; where a short video holds its last frame, some of its numbers lie behind the end.
            whole: what :meth:`whole` gave, where the video is kept in memory.
        """
        last = video.frames - 1
        numbers, squares = plan.frames.clamp(max=last), plan.own if isinstance(plan.own, Squares) else None
        if whole is None and plan.cuts is None and squares is None:
            return read_frames(video.path, numbers, video.keys), plan.own
        extra = numbers.new_empty(0) if squares is None else squares.numbers.clamp(max=last)
        pictures, places = whole, torch.cat([numbers.flatten(), extra])
        if whole is None:  # each frame is decoded and kept once
            distinct, places = torch.unique(places, return_inverse=True)
            pictures = read_frames(video.path, distinct, video.keys)
        of_views = places[: numbers.numel()].view_as(numbers)
        own = plan.own if squares is None else squares_of(pictures, places[numbers.numel() :], squares)
        return self.views(pictures, of_views, plan), own

    def views(self, pictures: Tensor, places: Tensor, plan: Plan) -> Tensor | CutVideo:
        """The plan's frames, which are at ``places [V, T]`` of ``pictures [F, H, W, 3]``."""
        if plan.cuts is not None:
            return cut_out(pictures, places, plan.cuts, plan.extents, plan.shrunk_to)
        # NumPy copies on this thread; torch would wake all of its threads for a few hundred kilobytes.
        return torch.from_numpy(pictures.numpy()[places.numpy()])
