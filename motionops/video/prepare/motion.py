"""Motion maps of a whole set, computed once: ``python -m motionops.video.prepare motion --data DIR --output FILE``.

32 cells along the longer side: the smallest view that MCL cuts out (a fifth of the picture, aspect 3:4 to 4:3) then
spans 12 x 16 cells of a square video and at least 9 each way of one of 16:9, so that each of the 7 x 7 cells of the
feature map that is aligned with motion has one of its own; with 16 it would span 6 and 4. On 128 x 128 videos of single
persons 32 cells take 49 MiB an hour of video, 16 take 15 MiB.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional

from motionops.commandline import existing_folder, warn
from motionops.errors import UserError
from motionops.video.checking import Skipped, UnusableVideos, require_usable
from motionops.video.lists import Video, find_videos, read_list
from motionops.video.motion_file import MotionWriter, video_state
from motionops.video.progress import with_progress
from motionops.video.reading import VideoError, read_pieces

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
    """Cells along the longer side of a map, at most one a pixel. Bytes grow with their square; below 32 a small view's
    map is coarser than the features that are aligned with it."""
    side: int = SIDE
    """Frames with a longer side are shrunk to it before the flow; 0: none is."""
    workers: int = 0
    """Videos that are worked on at the same time; 0: one for each core."""
    strict: bool = False
    """Stop at the first video that cannot be used, instead of skipping up to a tenth of them."""


class Finished(NamedTuple):
    """A video's motion maps `[F, h, w]`, and its size and time of change from before it was read."""

    motion: torch.Tensor
    state: tuple[int, int]


@torch.no_grad()
def video_motion(path: str, cells: int, side: int) -> torch.Tensor:
    """The motion maps (MCL, Eq. 1) of a video's frames, each with the one that follows it: `[F, h, w]`.

    Raises:
        VideoError: it cannot be read.
    """
    from motionops import has_cuda
    from motionops.flow.motion_map import motion_map
    from motionops.learning.clip_flow import clip_flow

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


def prepare(
    videos: Sequence[Video],
    output: Path,
    *,
    cells: int = CELLS,
    side: int = SIDE,
    workers: int = 0,
    strict: bool = False,
    progress: bool = True,
) -> list[Skipped]:
    """Write the motion of those videos that the file does not hold yet or that have changed since, each as it finishes.

    Returns:
        The videos that cannot be used, with the reason, in the order of the list; each is named on stderr too.

    Raises:
        UnusableVideos: more than a tenth of all videos cannot be used (said at the end: the others are written by
            then), or with `strict` the first.
        UserError: the file is of other settings, or cannot be written.
    """
    writer = MotionWriter(output, {"cells": cells, "side": side})
    wanted = writer.missing(videos)
    broken: dict[str, Skipped] = {}
    frames = written = 0
    begin = time.perf_counter()
    results = motions(wanted, cells, side, workers or len(os.sched_getaffinity(0)))
    try:
        for video, result in with_progress(results, len(wanted), "motion", show=progress and bool(wanted)):
            if isinstance(result, VideoError):
                broken[video.path] = Skipped(video.path, result.reason)
                if strict:
                    message = f"{video.path} cannot be used, and none may be skipped (strict): {result.reason}"
                    raise UnusableVideos(message, list(broken.values()))
                warn(f"skipped {video.path}: {result.reason}")
                continue
            written += writer.write(video.path, result.motion, result.state)
            frames += len(result.motion)
    finally:
        results.close()  # nothing more is begun after an error
        writer.close()
    if frames and progress:
        seconds = time.perf_counter() - begin
        rate, hour = frames / seconds, written / frames * FRAMES_OF_AN_HOUR / 2**20
        print(
            f"motion of {frames} frames in {seconds:.1f} s ({rate:.0f} a second), {written} bytes: {hour:.1f} MiB an "
            "hour of video (25 frames a second)",
            file=sys.stderr,
        )
    skipped = [broken[video.path] for video in videos if video.path in broken]
    require_usable([video for video in videos if video.path not in broken], skipped)
    return skipped


def motions(
    videos: Sequence[Video], cells: int, side: int, workers: int
) -> Iterator[tuple[Video, Finished | VideoError]]:
    """Each video with its motion, or why it has none, as they finish: a kill loses only those being worked on."""

    def work(video: Video) -> Finished | VideoError:
        try:
            state = video_state(video.path)
            return Finished(video_motion(video.path, cells, side), state)
        except VideoError as error:
            return error

    # Decoding and flow leave the interpreter's lock, so threads do; each computes on itself alone.
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    source = iter(videos)
    pending = {pool.submit(work, video): video for video in islice(source, 2 * workers)}
    try:
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                video = pending.pop(future)
                pending.update((pool.submit(work, following), following) for following in islice(source, 1))
                yield video, future.result()
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
    skipped = prepare(
        videos,
        config.output,
        cells=config.cells,
        side=config.side,
        workers=config.workers,
        strict=config.strict,
    )
    if skipped:
        print(f"{len(skipped)} of {len(videos)} videos were skipped", file=sys.stderr)
    return 0
