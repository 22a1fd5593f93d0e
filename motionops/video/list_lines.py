"""The lines of lists: what stands in one, and where it leads."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from motionops.errors import UserError

SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".ogv")


_SUFFIX = "|".join(re.escape(suffix) for suffix in SUFFIXES)


_PATH_THEN_LABEL = re.compile(rf"^(.*(?:{_SUFFIX}))[ \t,]+([^ \t,].*)$", re.IGNORECASE)


_LAST_SEPARATOR = re.compile(r"^(.*[^ \t,])[ \t,]+([^ \t,]+)$")


@dataclass(frozen=True)
class Video:
    """A video of a list.

    ``label`` is the class as the list writes it (a name or a number), None where it says nothing. ``frames`` is the
    number of frames that decode, None until :func:`motionops.video.check_videos` has counted them.
    """

    path: str
    label: str | None = None
    frames: int | None = None


def class_names(*lists: Sequence[Video]) -> list[str]:
    """The labels of all lists, each once: in numeric order where all are numbers, else in alphabetical order."""
    names = {video.label for videos in lists for video in videos if video.label is not None}
    if all(re.fullmatch(r"\d+", name) for name in names):
        return sorted(names, key=int)
    return sorted(names)


def read_plain_list(file: str, root: str | os.PathLike | None) -> list[Video]:
    """The lines of a plain list; arguments and errors as :func:`read_list`."""
    entries = (split_line(line) for line in read_lines(file))
    return [Video(locate(path, file, root), label) for path, label in entries]


def split_line(line: str) -> tuple[str, str | None]:
    """Path and label of one line of a plain list."""
    match = _PATH_THEN_LABEL.match(line)
    if match and "/" not in match[2]:
        return match[1], match[2].strip(" \t,")
    match = _LAST_SEPARATOR.match(line)
    if match and "/" not in match[2] and not match[2].lower().endswith(SUFFIXES):
        return match[1], match[2]
    return line.rstrip(" \t,"), None


def locate(path: str, file: str, root: str | os.PathLike | None) -> str:
    """Where a list's relative path leads: below ``root`` if it is there, else beside the list if it is there."""
    beside = os.path.join(os.path.dirname(file), path)
    if root is None:
        return beside
    below = os.path.join(os.fspath(root), path)
    return beside if not os.path.exists(below) and os.path.exists(beside) else below


def read_text(file: str) -> str:
    """The text of a list file (UTF-8, a byte-order mark is dropped). Raises UserError where it cannot be read."""
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{file}: no such list") from None
    except IsADirectoryError:
        raise UserError(f"{file}: is a folder, not a list") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: is not a text file") from None
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None


def read_lines(file: str) -> list[str]:
    """The lines of a list file that say something, stripped."""
    lines = (line.strip() for line in read_text(file).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def files_and_part(file: str) -> tuple[list[str], str | None]:
    """The files that a list argument names and the part ("train", "test", "val") that it asks for."""
    part = None
    if not os.path.exists(file):
        match = re.fullmatch(r"(.+):(train|test|val)", file)
        if match:
            file, part = match[1], match[2]
    if os.path.exists(file) or not any(sign in file for sign in "*?["):
        return [file], part
    pattern = Path(file)
    files = sorted(str(path) for path in pattern.parent.glob(pattern.name))
    if not files:
        raise UserError(f"{file}: no list matches")
    return files, part
