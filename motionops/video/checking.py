"""Which videos of a list can be used, and what to do about the others."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

from motionops.errors import UserError
from motionops.extras import require_av
from motionops.video.cache import one_at_a_time
from motionops.video.known_counts import KnownCounts
from motionops.video.list_lines import Video
from motionops.video.progress import threads, with_progress
from motionops.video.reading import VideoError, measure

MOST_SKIPPED = 0.1
SHOWN = 50  # unusable videos that an error names


class Skipped(NamedTuple):
    """A video that is not used, and why."""

    path: str
    reason: str


def once_each(skipped: Iterable[Skipped]) -> list[Skipped]:
    """Each video once, with the first of its reasons: one that changes while it is read has another each time."""
    first: dict[str, Skipped] = {}
    for video in skipped:
        first.setdefault(video.path, video)
    return list(first.values())


class UnusableVideos(UserError):
    """Too many videos of a list cannot be used; ``skipped`` holds all of them."""

    def __init__(self, message: str, skipped: Sequence[Skipped]) -> None:
        super().__init__(message)
        self.skipped = list(skipped)


def check_videos(
    videos: Sequence[Video],
    minimum_frames: int = 1,
    workers: int | None = None,
    progress: bool = True,
    known: str | os.PathLike | None = None,
) -> tuple[list[Video], list[Skipped]]:
    """Decode every video once: count its frames, and see how large they are.

    Args:
        videos: of a list.
        minimum_frames: a video with fewer is too short.
        workers: threads (decoding is done outside the interpreter's lock); by default one a core; 0 is one.
        progress: show a bar on stderr.
        known: a file that keeps the numbers, so that the next check decodes only files that are new, changed or
            unusable; see :mod:`motionops.video.known_counts`. None decodes everything.

    Returns:
        The usable videos with ``frames`` and ``picture`` filled in, and the others with the reason, both in the order
        of the list. Neither depends on ``workers``.
    """
    require_av()
    counts = None if known is None else KnownCounts(known)
    paths = [video.path for video in videos]
    with ThreadPoolExecutor(threads(workers)) as pool:
        found: list[list[int] | str | None] = [None] * len(paths)
        if counts is not None and counts.records:
            found = list(pool.map(counts.get, paths))
        new = [place for place, frames in enumerate(found) if frames is None]
        if new:
            with _alone(known, paths):
                # What another process has counted while this one waited is known now.
                counts = None if known is None else KnownCounts(known)
                counting = pool.map(lambda place: _measured(paths[place], counts), new)
                try:
                    counted = with_progress(counting, len(new), "checking videos", progress)
                    for place, frames in zip(new, counted, strict=True):
                        found[place] = frames
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
    usable, skipped = [], []
    for video, measured in zip(videos, found, strict=True):
        if isinstance(measured, str):
            skipped.append(Skipped(video.path, measured))
            continue
        frames, *picture = measured
        if frames >= minimum_frames:
            usable.append(dataclasses.replace(video, frames=frames, picture=tuple(picture)))
        else:
            skipped.append(Skipped(video.path, f"is too short: {frames} frames, {minimum_frames} are needed"))
    return usable, skipped


def _measured(path: str, counts: KnownCounts | None) -> list[int] | str:
    """Frames, height and width of a file, or why they cannot be had."""
    found = counts.get(path) if counts else None
    if found is None:
        try:
            found = list(measure(path))
        except VideoError as error:
            return error.reason
        if counts:
            counts.put(path, found)
    return found


def _alone(known: str | os.PathLike | None, paths: Sequence[str]) -> AbstractContextManager:
    """Of this machine's processes one at a time checks a set; where nothing is kept, each does it for itself."""
    if known is None:
        return nullcontext()
    name = hashlib.sha256("\n".join(map(os.path.abspath, paths)).encode(errors="surrogateescape")).hexdigest()[:12]
    return one_at_a_time(Path(known).with_suffix("") / f"{name}.lock")


def require_usable(
    usable: Sequence[Video], skipped: Sequence[Skipped], *, strict: bool = False, most: float = MOST_SKIPPED
) -> None:
    """Raise :class:`UnusableVideos` where too few videos are left.

    Args:
        usable, skipped: as :func:`check_videos` returned them.
        strict: one skipped video is too many.
        most: the share of skipped videos that is allowed.
    """
    total = len(usable) + len(skipped)
    if usable and len(skipped) <= (0 if strict else most * total):
        return
    if not total:
        raise UnusableVideos("there is no video", skipped)
    named = "; ".join(f"{path}: {reason}" for path, reason in skipped[:SHOWN])
    more = f"; and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
    limit = "none may be (strict)" if strict else f"at most {most:.0%} may be"
    raise UnusableVideos(f"{len(skipped)} of {total} videos cannot be used, {limit}: {named}{more}", skipped)
