"""What the commands share: which videos, many at a time, and what to do about those that cannot be used."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch

from motionops.commandline import warn
from motionops.errors import UserError
from motionops.motion.prepare.parts import Part
from motionops.motion.prepared_file import video_state
from motionops.video.checking import Skipped, UnusableVideos, require_usable
from motionops.video.list_lines import Video
from motionops.video.lists import ListColumn, data_place, find_videos, folder_of, folder_of_list, read_list
from motionops.video.progress import threads, with_progress
from motionops.video.reading import VideoError
from motionops.video.sources import is_address

FRAMES_OF_AN_HOUR = 25 * 3600


@dataclass
class PrepareConfig:
    """The flags that every command has."""

    output: Path
    """What is written. What is there already is continued."""
    data: Path | None = None
    """Folder of videos."""
    list: Path | None = None
    """List of the videos; without it all videos of --data."""
    list_columns: tuple[ListColumn, ...] = ()
    """What the columns of a plain list are, as path,frames,label; by default a path and perhaps a label."""
    workers: int | None = None
    """Videos that are worked on at the same time; without it one for each core."""
    strict: bool = False
    """Stop at the first video that cannot be used, instead of skipping up to a tenth of them."""
    part: str = ""
    """I/N: prepare the I-th of N parts of the videos alone, into OUTPUT.part-I-of-N; one machine or array task each,
    then ``motionops prepare join --output OUTPUT``."""

    def of_the_part(self, path: Path) -> Path:
        """Where this run writes what becomes `path`."""
        return Part.read(self.part).place(path) if self.part else path

    def videos(self) -> list[Video]:
        """The videos that --data and --list name, those of the part. UserError where there are none."""
        videos = self._all_videos()
        if not self.part:
            return videos
        part = Part.read(self.part)
        if part.count > len(videos):
            raise UserError(f"--part: {len(videos)} videos cannot be {part.count} parts")
        return part.of(videos)

    def _all_videos(self) -> list[Video]:
        if self.data is None and self.list is None:
            raise UserError("name the videos with --data or --list")
        if self.data is not None:
            data_place(self.data)
        if self.list is None:
            if self.list_columns:
                raise UserError("--list-columns: there is no --list whose columns these could be")
            return find_videos(self.data)
        return read_list(self.list, root=self.data, columns=self.list_columns)

    def root(self) -> str:
        """The folder, or address, below which the videos lie."""
        return folder_of_list(self.list) if self.data is None else folder_of(data_place(self.data))

    def require_at_least(self, **least: int) -> None:
        """UserError for a flag whose value is smaller."""
        for name, lowest in {**least, "workers": 0}.items():
            if getattr(self, name) is not None and getattr(self, name) < lowest:
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag}: must be at least {lowest}, got {getattr(self, name)}")


def place_below(path: str, data: str) -> str:
    """The path of a video from `data` on; UserError where it is elsewhere."""
    if is_address(path) or is_address(data):
        start = data.rstrip("/") + "/"
        if path.startswith(start):
            return path.removeprefix(start)
    else:
        relative = os.path.relpath(path, data)
        if relative.split(os.sep)[0] != os.pardir and not os.path.isabs(relative):
            return relative
    raise UserError(f"--list: {path} is not below --data {data}, whose folders are kept")


class Finished(NamedTuple):
    """What was computed of a video, and its size and time of change from before it was read."""

    result: Any
    state: tuple[int, int]


class Written(NamedTuple):
    """Frames that a video has, and the bytes that they took."""

    frames: int
    bytes: int


def prepare_videos(
    videos: Sequence[Video],
    wanted: Sequence[Video],
    work: Callable[[str], Any],
    write: Callable[[str, Finished], Written],
    *,
    what: str,
    workers: int | None = None,
    strict: bool = False,
    progress: bool = True,
) -> list[Skipped]:
    """Compute something of each wanted video, and write it as it finishes.

    Args:
        videos: all of the set, of which a tenth may be unusable.
        wanted: those that are not done yet.
        work: computes it, given the path; VideoError where the video cannot be used. Runs in a thread.
        write: puts it where it is kept. Runs in the calling thread.
        what: is computed, for the progress bar.
        workers: videos that are worked on at the same time; None: one for each core, 0: one.
        strict: stop at the first video that cannot be used.
        progress: show a bar, and at the end how fast it went and how much it takes.

    Returns:
        The videos that cannot be used, with the reason, in the order of the list; each is named on stderr too.

    Raises:
        UnusableVideos: more than a tenth of all videos cannot be used (said at the end: the others are written by
            then), or with `strict` the first.
    """
    broken: dict[str, Skipped] = {}
    frames = written = 0
    begin = time.perf_counter()
    if progress and len(wanted) < len(videos):
        print(f"{len(videos) - len(wanted)} of {len(videos)} videos are done already", file=sys.stderr)
    results = as_finished(wanted, work, threads(workers))
    try:
        for video, result in with_progress(results, len(wanted), what, show=progress and bool(wanted)):
            if isinstance(result, VideoError):
                broken[video.path] = Skipped(video.path, result.reason)
                if strict:
                    message = f"{video.path} cannot be used, and none may be skipped (strict): {result.reason}"
                    raise UnusableVideos(message, list(broken.values()))
                warn(f"skipped {result}")
                continue
            more = write(video.path, result)
            frames, written = frames + more.frames, written + more.bytes
    finally:
        results.close()  # nothing more is begun after an error
    if frames and progress:
        seconds = time.perf_counter() - begin
        rate, hour = frames / seconds, written / frames * FRAMES_OF_AN_HOUR / 2**20
        print(
            f"{what} of {frames} frames in {seconds:.1f} s ({rate:.0f} a second), {written} bytes: {hour:.1f} MiB an "
            "hour of video (25 frames a second)",
            file=sys.stderr,
        )
    skipped = [broken[video.path] for video in videos if video.path in broken]
    if skipped and progress:
        print(f"{len(skipped)} of {len(videos)} videos were skipped", file=sys.stderr)
    require_usable([video for video in videos if video.path not in broken], skipped)
    return skipped


def as_finished(
    videos: Sequence[Video], work: Callable[[str], Any], workers: int
) -> Iterator[tuple[Video, Finished | VideoError]]:
    """Each video with what `work` says of it, as they finish: a kill loses only those being worked on."""

    def one(video: Video) -> Finished | VideoError:
        try:
            state = video_state(video.path)
            return Finished(work(video.path), state)
        except VideoError as error:
            return error

    # Decoding and operators leave the interpreter's lock, so threads do; each computes on itself alone.
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    source = iter(videos)
    pending = {pool.submit(one, video): video for video in islice(source, 2 * workers)}
    try:
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                video = pending.pop(future)
                pending.update((pool.submit(one, following), following) for following in islice(source, 1))
                yield video, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)
