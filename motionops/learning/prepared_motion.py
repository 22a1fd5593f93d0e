"""The motion of a run's videos: from a file that is named, or from one in the cache that is made once."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from motionops.errors import UserError
from motionops.learning.distributed import environment_rank
from motionops.video.cache import cache_folder
from motionops.video.lists import Video
from motionops.video.motion_file import TABLES, MotionFile
from motionops.video.prepare.motion import CELLS, SIDE, prepare


def find_or_prepare(file: Path | None, videos: Sequence[Video]) -> MotionFile:
    """The motion file `file`, or without one that of the cache folder, completed first where videos are missing.

    Of the processes of a run on one machine the first to come computes, the others wait for it.

    Raises:
        UserError: no such file, or it lacks a video, or one has changed since; the text names the command that
            makes it.
    """
    if file is not None:
        try:
            motion = MotionFile(file)
            motion.require(videos)
        except UserError as error:
            raise UserError(f"--motion-file: {error}") from error
        return motion
    folder = cache_folder() / "motion"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{set_name(videos)}.sqlite"
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed when the process ends, however it ends
        prepare(videos, path, progress=environment_rank() == 0)
    motion = MotionFile(path)
    motion.require(videos)
    return motion


def set_name(videos: Sequence[Video]) -> str:
    """Names the default motion of videos by their common folder, so that lists of one data set share a file."""
    folder = os.path.commonpath([os.path.dirname(os.path.realpath(video.path)) for video in videos])
    key = f"{folder} {CELLS} {SIDE} {TABLES}"  # another default, another layout: another file
    return f"{os.path.basename(folder) or 'videos'}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
