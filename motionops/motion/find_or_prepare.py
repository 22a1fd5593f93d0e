"""What a run's videos were prepared to: from a place that is named, or from one in the cache that is filled once."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from motionops.errors import UserError
from motionops.motion.edges_folder import EDGES, EdgesFolder
from motionops.motion.motion_file import MOTION, MotionFile
from motionops.motion.prepare import flow_edges, motion
from motionops.motion.prepared_file import Followed, Kind
from motionops.ranks import environment_rank
from motionops.video.cache import cache_folder, in_cache_folder, one_at_a_time
from motionops.video.list_lines import Video

Alone = Callable[[Callable[[], str]], str]  # of a machine's processes one works, and tells the others what it found


def each_for_itself(find: Callable[[], str]) -> str:
    return find()


def find_or_prepare(
    file: Path | None, videos: Sequence[Video], side: int = motion.SIDE, alone: Alone = each_for_itself
) -> MotionFile:
    """The motion file `file`, or without one that of the cache folder, completed first where videos are missing; of
    frames whose longer side was shrunk to `side` pixels, 0: of whole ones. What is asked of every video is asked within
    `alone`.

    Raises:
        UserError: no such file, or it lacks a video, or one has changed since; the text names the command that
            makes it.
    """

    def place() -> Path:
        settings = {"cells": motion.CELLS, "side": side}
        return file or in_cache(MOTION, settings, videos, ".sqlite", motion.prepare_motion)

    return checked("--motion-file", place, MotionFile, videos, alone)


def find_or_prepare_edges(
    folder: Path | None, videos: Sequence[Video], size: int, interval: int, alone: Alone = each_for_itself
) -> EdgesFolder:
    """The folder of flow edges `folder`, or without one that of the cache folder, completed first. As above."""

    def place() -> Path:
        settings = {"size": size, "interval": interval}
        return folder or in_cache(EDGES, settings, videos, "", flow_edges.prepare_flow_edges)

    return checked("--prepared", place, lambda held: EdgesFolder(held, size, interval), videos, alone)


def checked(
    flag: str, place: Callable[[], Path], opened: Callable, videos: Sequence[Video], alone: Alone
) -> MotionFile | EdgesFolder:
    """What `opened` makes of a place, where it holds all the videos; else the error names the flag."""

    def find() -> str:
        held = place()
        with flag_named(flag):
            opened(held).require(videos)
        return os.fspath(held)

    held = Path(alone(find))
    with flag_named(flag):
        return opened(held)


@contextlib.contextmanager
def flag_named(flag: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error


def in_cache(kind: Kind, settings: dict, videos: Sequence[Video], suffix: str, prepare: Callable) -> Path:
    """Where the videos' kind of preparation is in the cache folder, after `prepare` has completed it.

    Of the processes of a run on one machine the first to come computes, the others wait for it.
    """
    folder = in_cache_folder(cache_folder() / kind.what.replace(" ", "_"))
    name = set_name(videos, f"{settings} {kind}")  # other settings, another layout: another place
    with one_at_a_time(folder / f"{name}.lock"):
        prepare(videos, folder / f"{name}{suffix}", **settings, progress=environment_rank() == 0)
    return folder / f"{name}{suffix}"


def set_name(videos: Sequence[Video], settings: str) -> str:
    """Names what is kept of videos by their common folder, so that lists of one data set share a place."""
    followed = Followed()
    folder = os.path.commonpath({os.path.dirname(followed(video.path)[0]) for video in videos})
    digest = hashlib.sha256(os.fsencode(f"{folder} {settings}")).hexdigest()
    return f"{os.path.basename(folder) or 'videos'}-{digest[:12]}"
