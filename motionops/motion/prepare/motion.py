"""Motion maps of a whole set, computed once: ``motionops prepare motion --data DIR --output FILE``.

32 cells along the longer side: the smallest view that MCL cuts out (a fifth of the picture, aspect 3:4 to 4:3) then
spans 12 x 16 cells of a square video and at least 9 each way of one of 16:9, so that each of the 7 x 7 cells of the
feature map that is aligned with motion has one of its own; with 16 it would span 6 and 4. On 128 x 128 videos of single
persons 32 cells take 49 MiB an hour of video, 16 take 15 MiB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from motionops.flow.clip_flow import clip_flow
from motionops.flow.motion_map import motion_map
from motionops.library import has_cuda
from motionops.motion.motion_file import MotionWriter
from motionops.motion.prepare.videos import Finished, PrepareConfig, Written, prepare_videos
from motionops.video.checking import Skipped
from motionops.video.list_lines import Video
from motionops.video.reading import read_pieces

CELLS, SIDE = 32, 96
FRAMES_AT_ONCE = 64


@dataclass
class MotionConfig(PrepareConfig):
    """Compute the motion maps of a set of videos once, for trainers/mcl.py --motion-file. --output is a file."""

    cells: int = CELLS
    """Cells along the longer side of a map, at most one a pixel. Bytes grow with their square; below 32 a small view's
    map is coarser than the features that are aligned with it."""
    side: int = SIDE
    """Frames with a longer side are shrunk to it before the flow; 0: none is."""


@torch.no_grad()
def video_motion(path: str, cells: int, side: int) -> torch.Tensor:
    """The motion maps (MCL, Eq. 1) of a video's frames, each with the one that follows it: `[F, h, w]`.

    Raises:
        VideoError: it cannot be read.
    """

    device = "cuda" if torch.cuda.is_available() and has_cuda() else "cpu"
    maps: list[torch.Tensor] = []
    before = last = None
    for piece in read_pieces(path, FRAMES_AT_ONCE):
        frames = shrunk(piece.to(device), side)
        # The last frame waits for its follower, which the next piece begins with.
        frames = frames if before is None else torch.cat([before, frames])
        motion = motion_map(clip_flow(frames[None]))[0]
        motion = functional.adaptive_avg_pool2d(motion, fitted(*motion.shape[1:], cells)).cpu()
        maps.append(motion[:-1])
        before, last = frames[-1:], motion[-1:]  # which repeats the one before: right for the video's last frame
    return torch.cat([*maps, last])


def shrunk(frames: torch.Tensor, side: int) -> torch.Tensor:
    """Frames uint8 `[F, H, W, 3]` whose longer side is at most `side` (0: as they are)."""
    height, width = frames.shape[1:3]
    if not side or max(height, width) <= side:
        return frames
    pictures = functional.interpolate(frames.permute(0, 3, 1, 2).float(), fitted(height, width, side), mode="area")
    return pictures.round().to(torch.uint8).permute(0, 2, 3, 1)


def fitted(height: int, width: int, longest: int) -> list[int]:
    """Height and width of the same aspect, the longer one at most `longest`."""
    scale = min(1.0, longest / max(height, width))
    return [max(1, round(height * scale)), max(1, round(width * scale))]


def prepare_motion(
    videos: Sequence[Video],
    output: Path,
    *,
    cells: int = CELLS,
    side: int = SIDE,
    workers: int | None = None,
    strict: bool = False,
    progress: bool = True,
) -> list[Skipped]:
    """Write the motion of those videos that the file does not hold yet or that have changed since, each as it finishes.

    Returns and raises as :func:`prepare_videos`; also UserError where the file is of other settings, or cannot be
    written.
    """
    writer = MotionWriter(output, {"cells": cells, "side": side})

    def write(path: str, finished: Finished) -> Written:
        motion = finished.result
        return Written(len(motion), writer.write(path, motion, finished.state))

    work = partial(video_motion, cells=cells, side=side)
    how = {"workers": workers, "strict": strict, "progress": progress}
    try:
        return prepare_videos(videos, writer.missing(videos), work, write, what="motion", **how)
    finally:
        writer.close()


def main(config: MotionConfig) -> int:
    """Write the motion of all videos that have none yet."""
    config.require_at_least(cells=1, side=0)
    how = {name: getattr(config, name) for name in ("cells", "side", "workers", "strict")}
    prepare_motion(config.videos(), config.of_the_part(config.output), **how)
    return 0
