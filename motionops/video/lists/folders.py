"""Videos in folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from motionops.commandline import warn
from motionops.errors import UserError
from motionops.ranks import environment_rank
from motionops.video.list_lines import SUFFIXES, Video, as_label
from motionops.video.lists.shards import data_place, shards_named, videos_in_store, videos_of_shards
from motionops.video.sources import is_address, written
from motionops.video.sources.addresses import is_tar

BESIDE_VIDEOS = (".txt", ".csv", ".json", ".jsonl", ".md", ".yaml", ".yml")  # lists and notes are nobody's videos
SHOWN = 5  # kinds of other files that a warning names


def walk(folder: str | os.PathLike) -> Iterator[tuple[str, list[str]]]:
    """The folders below one, itself first, with the names of their files; links are followed.

    Each real folder comes once: by its own path where it lies below, else by the first link to it. A link to a folder
    above, of which this one is a part, is none of its parts. Hidden files and folders do not count.
    """
    top = os.path.realpath(folder)
    above = {os.path.dirname(top[: place + 1]) or os.sep for place, sign in enumerate(top) if sign == os.sep}
    above = {os.path.realpath(path) for path in above} - {top}
    seen = set()
    starts = [os.fspath(folder)]
    while starts:
        links = []
        for start in starts:
            if os.path.realpath(start) in seen:
                continue
            for directory, folders, names in os.walk(start):
                seen.add(os.path.realpath(directory))
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                paths = [os.path.join(directory, name) for name in folders]
                links += [path for path in paths if os.path.islink(path)]
                yield directory, sorted(name for name in names if not name.startswith("."))
        starts = [path for path in sorted(links) if os.path.realpath(path) not in above]


def video_paths(place: str) -> Iterator[str]:
    """The paths of all videos below a folder or an address, those in shards behind the others."""
    if is_address(place):
        yield from (video.path for video in videos_in_store(place))
        return
    tars = []
    for directory, names in walk(place):
        for name in names:
            if is_tar(name):
                tars.append(os.path.join(directory, name))
            elif os.path.splitext(name)[1].lower() in SUFFIXES:
                yield os.path.join(directory, name)
    yield from (video.path for video in videos_of_shards(tars))


def find_videos(folder: str | os.PathLike) -> list[Video]:
    """All videos below a folder, sorted by path; the label is the name of the first folder on the way.

    Files are known by their suffix; hidden files and folders do not count. Links are followed, each real folder counts
    once. Where there are files of other kinds beside them (but lists and notes), a warning on stderr says how many.

    Tars are shards: each member is a video, ``shard.tar/member.mp4``, whose label is what the member of the same name
    in ``.cls`` or ``.json`` says (WebDataset's layout), else the first folder within the tar. ``folder`` may also be a
    tar, a pattern of tars (``shards/*.tar``, ``shards/{000..127}.tar``), or an address that fsspec knows
    (``s3://bucket/folder``). A damaged tar stands in the list itself, for those that it lost.

    Raises:
        UserError: the folder is missing, is not a folder, or holds no video.
    """
    folder = written(folder)
    if is_tar(folder) and not os.path.isdir(folder):
        return _some(folder, videos_of_shards(shards_named(data_place(folder)), environment_rank() == 0))
    if is_address(folder):
        return _some(folder, videos_in_store(folder))
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: {'is not a folder' if os.path.exists(folder) else 'no such folder'}")
    found, tars, others = [], [], Counter()
    for directory, names in walk(folder):
        first = os.path.relpath(directory, folder).split(os.sep)[0]
        label = None if first == os.curdir else as_label(first)
        for name in names:
            kind = os.path.splitext(name)[1].lower()
            if kind in SUFFIXES:
                found.append(Video(os.path.join(directory, name), label))
            elif is_tar(name):
                tars.append(os.path.join(directory, name))
            elif kind not in BESIDE_VIDEOS:
                others[kind or "without a suffix"] += 1
    found += videos_of_shards(tars, environment_rank() == 0)
    if not found:
        kinds = f"; it holds {_counted(others)}" if others else ""
        raise UserError(f"{folder}: holds no video ({', '.join(SUFFIXES)}){kinds}")
    if others and environment_rank() == 0:
        warn(f"{folder}: {others.total()} files of other kinds are left out ({_counted(others)})")
    return sorted(found, key=lambda video: video.path)


def _some(place: str, videos: list[Video]) -> list[Video]:
    if not videos:
        raise UserError(f"{place}: holds no video ({', '.join(SUFFIXES)})")
    return videos


def _counted(kinds: Counter) -> str:
    named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(SHOWN))
    return f"{named}, ..." if len(kinds) > SHOWN else named
