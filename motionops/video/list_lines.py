"""A video of a list, what stands in a list's line, and where it leads."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from motionops.video.counting.key_frames import NOT_KNOWN, KeyFrames
from motionops.video.sources import exists, is_address

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".avi", ".divx", ".xvid", ".mkv", ".webm", ".ogv", ".ogm"),
    *(".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".mpv", ".vob", ".ts", ".mts", ".m2ts", ".m2t", ".wmv", ".asf"),
    *(".flv", ".rm", ".rmvb", ".mxf", ".dv", ".gif", ".y4m", ".mjpg", ".mjpeg", ".h264", ".264", ".hevc", ".265"),
)
SUFFIX_PATTERN = "|".join(re.escape(suffix) for suffix in sorted(SUFFIXES, key=len, reverse=True))

_PATH_THEN_LABEL = re.compile(rf"^(.*(?:{SUFFIX_PATTERN}))[ \t,]+([^ \t,].*)$", re.IGNORECASE)


_LAST_SEPARATOR = re.compile(r"^(.*[^ \t,])[ \t,]+([^ \t,]+)$")


@dataclass(frozen=True, slots=True)
class Video:
    """A video of a list.

    ``label`` is the class as the list writes it (a name or a number), None where it says nothing or has several.
    ``frames`` is the number of frames that decode, ``picture`` the height and width of an upright picture; None until
    :func:`motionops.video.check_videos` has found them out.
    ``labels`` are the classes where a list gives several a video; with one of them it is ``label`` too. ``keys`` says
    where in the file decoding may begin, as far as the check has found it out.
    """

    path: str
    label: str | None = None
    frames: int | None = None
    labels: tuple[str, ...] = ()
    picture: tuple[int, int] | None = None
    keys: KeyFrames = NOT_KNOWN


class OneOfEach:
    """Gives for equal values of one type the same object: most of a million videos are alike in all but their names."""

    def __init__(self) -> None:
        self.held: dict[tuple[type, Any], Any] = {}

    def __call__(self, value: Any) -> Any:
        return self.held.setdefault((type(value), value), value)


def class_names(*lists: Sequence[Video]) -> list[str]:
    """The labels of all lists, each once: in numeric order where all are numbers, else in alphabetical order."""
    names = {video.label for videos in lists for video in videos if video.label is not None}
    if all(re.fullmatch(r"\d+", name) for name in names):
        return sorted(names, key=int)
    return sorted(names)


def split_line(line: str) -> tuple[str, str | None]:
    """Path and label of one line of a plain list."""
    match = _PATH_THEN_LABEL.match(line)
    if match and "/" not in match[2]:
        return match[1], match[2].strip(" \t,")
    match = _LAST_SEPARATOR.match(line)
    if match and "/" not in match[2] and not match[2].lower().endswith(SUFFIXES):
        return match[1], match[2]
    return line.rstrip(" \t,"), None


def as_label(name: str) -> str:
    """A class's name as text: bytes that are no UTF-8, of a list or a folder, as the letters of Windows' Latin-1."""
    return sys.intern((_as_latin1(name) or (name,))[0])  # one object for all videos of a class


def locate(path: str, file: str, root: str | os.PathLike | None) -> str:
    """Where a list's relative path leads: below ``root`` if it is there, else beside the list if it is there.

    A name of a list in Latin-1 or another encoding of bytes is looked for as those bytes, and as Latin-1's letters.
    """
    if is_address(path):
        return path
    beside = os.path.join(os.path.dirname(file), path)
    below = beside if root is None else os.path.join(os.fspath(root), path)
    if is_address(below):
        return below  # a store is not asked for each
    for place in (below, beside):
        for name in (place, *_as_latin1(place)):
            if exists(name):
                return name
    return below


def _as_latin1(name: str) -> tuple[str, ...]:
    """The name whose bytes that are no UTF-8 are letters of Latin-1 (Windows' version of it); none without such."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return (os.fsencode(name).decode("cp1252", errors="replace"),)
    return ()
