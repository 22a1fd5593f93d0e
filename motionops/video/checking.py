"""Which videos of a list can be used, and what to do about the others."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

from motionops.errors import UserError
from motionops.extras import require_av
from motionops.video.cache import one_at_a_time
from motionops.video.counting.contents import Contents
from motionops.video.counting.processes import asked
from motionops.video.known_counts import KnownCounts, State, file_state, packed, unpacked
from motionops.video.list_lines import OneOfEach, Video
from motionops.video.progress import threads, with_progress
from motionops.video.reading import VideoError, measure
from motionops.video.sources import absolute, shown

MOST_SKIPPED = 0.1
NO_STATE = (0, 0)  # of a file that went away before it was read
AT_ONCE = 256  # files that a thread looks at in one go
SHOWN = 50  # unusable videos that an error names


class Skipped(NamedTuple):
    """A video that is not used, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{shown(self.path)}: {self.reason}"


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
    decode: bool = False,
) -> tuple[list[Video], list[Skipped]]:
    """Count the frames of every video, and see how large they are and where decoding may begin.

    Where a file's packets tell all that (MP4 and Matroska of the usual codecs), their structure is looked at, and a few
    frames are decoded at the beginning and at the last key frame; any other file is decoded. Damage within a frame that
    is not decoded here is found when it is read.

    Args:
        videos: of a list.
        minimum_frames: a video with fewer is too short.
        workers: processes, or threads where there are few videos; by default one a core; 0 is one.
        progress: show a bar on stderr.
        known: a file that keeps the numbers, so that the next check reads only files that are new, changed or
            unusable; see :mod:`motionops.video.known_counts`. None reads everything.
        decode: decode every frame of every video that was not decoded whole yet.

    Returns:
        The usable videos with ``frames``, ``picture`` and ``keys`` filled in, and the others with the reason, both in
        the order of the list. Neither depends on ``workers``.
    """
    require_av()
    paths = [video.path for video in videos]
    found: list[bytes | str | None] = [None] * len(paths)  # packed contents, or why there are none
    if known is not None:
        _recall(KnownCounts(known, paths), paths, range(len(paths)), found, workers, decode)
    if new := [place for place, contents in enumerate(found) if contents is None]:
        with _alone(known, paths):
            counts = None
            if known is not None:  # what another process has counted while this one waited is known now
                counts = KnownCounts(known, (paths[place] for place in new))
                _recall(counts, paths, new, found, workers, decode)
                new = [place for place in new if found[place] is None]
            answers = asked([paths[place] for place in new], partial(_measured, decode=decode), threads(workers))
            with contextlib.closing(answers):
                for number, answer in with_progress(answers, len(new), "checking videos", progress):
                    if isinstance(answer, VideoError):
                        found[new[number]] = answer.reason
                        continue
                    state, contents = answer
                    found[new[number]] = packed(state or NO_STATE, contents)
                    if counts is not None:
                        counts.put(paths[new[number]], state, contents)
    usable, skipped, alike = [], [], OneOfEach()
    for place, video in enumerate(videos):
        record, found[place] = found[place], None
        if isinstance(record, str):
            skipped.append(Skipped(video.path, record))
            continue
        contents = unpacked(record)
        if contents.frames < minimum_frames:
            reason = f"is too short: {contents.frames} frames, {minimum_frames} are needed"
            skipped.append(Skipped(video.path, reason))
        else:
            shape = {"frames": alike(contents.frames), "picture": alike((contents.height, contents.width))}
            usable.append(dataclasses.replace(video, **shape, keys=alike(contents.keys)))
    return usable, skipped


def _recall(
    counts: KnownCounts,
    paths: Sequence[str],
    places: Sequence[int],
    found: list[bytes | str | None],
    workers: int | None,
    decode: bool,
) -> None:
    """Fill in what is known already; files are looked at by several threads, since a network's disk takes its time."""
    if not counts.records:
        return

    def recall(first: int) -> None:
        for place in places[first : first + AT_ONCE]:
            record = counts.record(paths[place])
            if record is not None and (not decode or unpacked(record).decoded):
                found[place] = record

    with ThreadPoolExecutor(threads(workers)) as pool:
        for _ in pool.map(recall, range(0, len(places), AT_ONCE)):
            pass


def _measured(path: str, decode: bool) -> tuple[State | None, Contents]:
    """The state of a file before it is read, and what is in it."""
    return file_state(path), measure(path, decode)


def _alone(known: str | os.PathLike | None, paths: Sequence[str]) -> AbstractContextManager:
    """Of this machine's processes one at a time checks a set; where nothing is kept, each does it for itself."""
    if known is None:
        return nullcontext()
    name = hashlib.sha256("\n".join(map(absolute, paths)).encode(errors="surrogateescape")).hexdigest()[:12]
    return one_at_a_time(Path(f"{os.fspath(known)}.locks") / f"{name}.lock")


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
    named = "; ".join(map(str, skipped[:SHOWN]))
    more = f"; and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
    limit = "none may be (strict)" if strict else f"at most {most:.0%} may be"
    raise UnusableVideos(f"{len(skipped)} of {total} videos cannot be used, {limit}: {named}{more}", skipped)
