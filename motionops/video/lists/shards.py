"""Videos in shards: tars of many videos each, and objects of a store."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from motionops.commandline import existing_folder
from motionops.errors import UserError
from motionops.video.list_lines import SUFFIXES, Video, as_label
from motionops.video.progress import threads, with_progress
from motionops.video.sources import is_address, written
from motionops.video.sources.addresses import is_tar
from motionops.video.sources.faults import VideoError
from motionops.video.sources.stores import as_listed, names_in
from motionops.video.sources.tars import members_of

ASKED_AT_ONCE = 16  # tars of a store: it answers slowly, and many at a time
MANY = 64  # tars from which a bar is shown

_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")


def shards_named(name: str) -> list[str]:
    """The tars that a name stands for: one, a pattern (``*``, ``?``, ``[...]``), or numbers (``{000..127}``).

    Raises:
        UserError: a pattern that none matches.
    """
    found = []
    for each in _numbered(name):
        if not any(sign in each for sign in "*?[") or os.path.exists(each):
            found.append(each)
        else:
            matched = names_in(each) if is_address(each) else sorted(glob.glob(each))
            if not matched:
                raise UserError(f"{each}: no shard matches")
            found += matched
    return found


def located_shards(name: str, file: str, root: str | None) -> list[str]:
    """The tars that a list's line names, below ``root`` or beside the list, as videos are."""
    beside = name if is_address(name) else os.path.join(os.path.dirname(file), name)
    below = beside if root is None or is_address(name) else os.path.join(root, name)
    for place in (below, beside):
        with contextlib.suppress(UserError):
            tars = shards_named(place)
            if all(is_address(tar) or os.path.isfile(tar) for tar in tars):
                return tars
    return shards_named(below)


def _numbered(name: str) -> list[str]:
    match = _NUMBERS.search(name)
    if not match:
        return [name]
    first, last = match.groups()
    numbers = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
    return [each for number in numbers for each in _numbered(f"{name[: match.start()]}{number}{name[match.end() :]}")]


def videos_of_shards(tars: Sequence[str], progress: bool = False) -> list[Video]:
    """The videos in tars, sorted by path. Labels are what a sample's ``.cls`` or ``.json`` says, else the first folder
    on the way to a member.

    A tar that is damaged, or cannot be read, stands for the videos that it lost, with the label of one of the others:
    it is skipped, named and counted where those would be used.
    """
    several = ASKED_AT_ONCE if any(map(is_address, tars)) else threads(None)
    with ThreadPoolExecutor(several) as pool:
        found = with_progress(pool.map(_videos_of, tars), len(tars), "indexing shards", progress and len(tars) > MANY)
        videos = [video for part in found for video in part]
    some = next((video for video in videos if not is_tar(video.path)), Video(""))
    videos = [replace(some, path=video.path) if is_tar(video.path) else video for video in videos]
    return sorted(videos, key=lambda video: video.path)


def _videos_of(tar: str) -> list[Video]:
    try:
        members, damage = members_of(tar)
    except (OSError, VideoError):
        return [Video(tar)]  # whoever reads it says why
    videos = [] if damage is None else [Video(tar)]
    for name, said in members:
        if name.lower().endswith(SUFFIXES):
            labels = tuple(map(as_label, said))
            folder = name.split("/")[0] if "/" in name and not labels else None
            label = labels[0] if len(labels) == 1 else as_label(folder) if folder else None
            videos.append(Video(f"{tar}/{name}", label, labels=labels if len(labels) > 1 else ()))
    return videos


def videos_in_store(address: str) -> list[Video]:
    """The videos and the shards below an address, sorted by path; labels as :func:`motionops.video.find_videos`."""
    start = as_listed(address).rstrip("/") + "/"
    found, tars = [], []
    for name in names_in(address):
        below = name.removeprefix(start).split("/")
        if any(part.startswith(".") for part in below):
            continue
        if is_tar(name):
            tars.append(name)
        elif name.lower().endswith(SUFFIXES):
            found.append(Video(name, as_label(below[0]) if len(below) > 1 else None))
    return sorted([*found, *videos_of_shards(tars)], key=lambda video: video.path)


def data_place(data: str | os.PathLike, flag: str = "--data") -> str:
    """What a flag names: a folder that is there, shards, or an address.

    Raises:
        UserError: no such folder, no shard of this name.
    """
    text = written(data)
    if is_tar(text):
        for tar in shards_named(text):
            if not is_address(tar) and not os.path.isfile(tar):
                raise UserError(f"{flag}: there is no shard {tar}")
        return text
    return text if is_address(text) else os.fspath(existing_folder(text, flag))


def folder_of_list(file: str | os.PathLike) -> str:
    """The folder that a list's paths are relative to where there is no other one."""
    return os.path.dirname(written(file)) or os.curdir


def folder_of(place: str) -> str:
    """The folder that paths of a list are relative to: that of shards, else the place itself."""
    return (os.path.dirname(place) or os.curdir) if is_tar(place) and not os.path.isdir(place) else place
