"""Motion maps of a whole set, computed once: ``python -m motionops.video.prepare motion --data DIR --output FILE``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch.nn import functional

from motionops.commandline import existing_folder, warn
from motionops.errors import UserError
from motionops.video.lists import Video, find_videos, read_list
from motionops.video.motion_file import MotionWriter
from motionops.video.progress import with_progress
from motionops.video.reading import VideoError, read_video

CELLS, SIDE = 32, 96
FRAMES_AT_ONCE = 64
FRAMES_OF_AN_HOUR = 25 * 3600


@dataclass
class MotionConfig:
    """Compute the motion maps of a set of videos once, for trainers/mcl.py --motion-file."""

    output: Path
    """File for the maps. One that is there already is continued."""
    data: Path | None = None
    """Folder of videos."""
    list: Path | None = None
    """List of the videos; without it all videos of --data."""
    cells: int = CELLS
    """Cells along the longer side of a map, at most one a pixel."""
    side: int = SIDE
    """Frames with a longer side are shrunk to it before the flow; 0: none is."""
    workers: int = 0
    """Videos that are worked on at the same time; 0: one for each core."""


@torch.no_grad()
def video_motion(path: str, cells: int, side: int) -> torch.Tensor:
    """The motion maps (MCL, Eq. 1) of a video's frames, each with the one that follows it: `[F, h, w]`.

    Raises:
        VideoError: it cannot be read.
    """
    from motionops import has_cuda
    from motionops.flow.motion_map import motion_map
    from motionops.learning.clip_flow import clip_flow

    video = read_video(path)
    device = "cuda" if torch.cuda.is_available() and has_cuda() else "cpu"
    maps = []
    for begin in range(0, len(video), FRAMES_AT_ONCE):
        # One frame more, so that every frame but the video's last has its follower.
        frames = shrunk(video[begin : begin + FRAMES_AT_ONCE + 1].to(device), side)
        motion = motion_map(clip_flow(frames[None]))[0, :FRAMES_AT_ONCE]
        if len(frames) == 1 and maps:
            maps.append(maps[-1][-1:])  # the last frame repeats the one before
            continue
        height, width = motion.shape[1:]
        scale = min(1.0, cells / max(height, width))
        maps.append(
            functional.adaptive_avg_pool2d(motion, [max(1, round(height * scale)), max(1, round(width * scale))])
        )
    return torch.cat(maps).cpu()


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


def prepare(
    videos: Sequence[Video],
    output: Path,
    *,
    cells: int = CELLS,
    side: int = SIDE,
    workers: int = 0,
    progress: bool = True,
) -> None:
    """Write the motion of those videos that the file does not hold yet; one that cannot be read is named and left out.

    Raises:
        UserError: the file is of other settings, or cannot be written.
    """
    writer = MotionWriter(output, {"cells": cells, "side": side})
    wanted = writer.missing(videos)
    frames = written = 0
    begin = time.perf_counter()
    try:
        results = motions(wanted, cells, side, workers or len(os.sched_getaffinity(0)))
        for video, result in with_progress(results, len(wanted), "motion", show=progress and bool(wanted)):
            if isinstance(result, VideoError):
                warn(f"skipped {video.path}: {result.reason}")
                continue
            written += writer.write(video.path, result)
            frames += len(result)
    finally:
        writer.close()
    if frames and progress:
        seconds = time.perf_counter() - begin
        rate, hour = frames / seconds, written / frames * FRAMES_OF_AN_HOUR / 2**20
        print(
            f"motion of {frames} frames in {seconds:.1f} s ({rate:.0f} a second), {written} bytes: {hour:.1f} MiB an "
            "hour of video (25 frames a second)",
            file=sys.stderr,
        )


def motions(
    videos: Sequence[Video], cells: int, side: int, workers: int
) -> Iterator[tuple[Video, torch.Tensor | VideoError]]:
    """Each video with its motion, or why it has none, in order; a few are worked on ahead of what is taken."""

    def work(video: Video) -> torch.Tensor | VideoError:
        try:
            return video_motion(video.path, cells, side)
        except VideoError as error:
            return error

    # Decoding and flow leave the interpreter's lock, so threads do; each computes on itself alone.
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    source = iter(videos)
    waiting = [(video, pool.submit(work, video)) for video in islice(source, 2 * workers)]
    try:
        while waiting:
            video, future = waiting.pop(0)
            result = future.result()
            waiting += [(following, pool.submit(work, following)) for following in islice(source, 1)]
            yield video, result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)


def main(config: MotionConfig) -> int:
    """Write the motion of all videos that have none yet."""
    for name, least in {"cells": 1, "side": 0, "workers": 0}.items():
        if getattr(config, name) < least:
            raise UserError(f"--{name}: must be at least {least}, got {getattr(config, name)}")
    if config.data is None and config.list is None:
        raise UserError("name the videos with --data or --list")
    if config.data is not None:
        existing_folder(config.data)
    videos = find_videos(config.data) if config.list is None else read_list(config.list, root=config.data)
    prepare(videos, config.output, cells=config.cells, side=config.side, workers=config.workers)
    return 0
