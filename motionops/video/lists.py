"""Which videos there are: lists and class folders. The published split files are read by ``split_files``."""

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


def read_list(file: str | os.PathLike, root: str | os.PathLike | None = None) -> list[Video]:
    """Read a list of videos.

    A plain list has one video a line: ``path label``, ``path,label`` or ``path``. The label is what follows the last
    separator (or all that follows a video's suffix), so paths may hold spaces. Blank lines and lines that begin with
    ``#`` do not count. Paths are relative to ``root`` or, where ``root`` is None or has no such file, to the list.

    Split files are recognised as they are distributed, and their videos are looked for under ``root`` (by default the
    list's folder): UCF101 (``trainlist01.txt``, ``testlist01.txt`` with ``classInd.txt`` beside it), HMDB51
    (``*_test_split1.txt``), Kinetics (csv), Diving48 and Something-Something v2 (json). ``file`` may be a
    pattern, as HMDB51's 51 files need one, and ``FILE:train``, ``FILE:test`` or ``FILE:val`` takes one part of
    files that hold several: ``splits/*_test_split1.txt:train``.

    Args:
        file: the list.
        root: the folder of the videos.

    Returns:
        One :class:`Video` an entry, in the order of the list. Whether the files exist is not checked here.

    Raises:
        UserError: the list is missing, empty, or not what its name says.
    """
    from motionops.video import split_files  # which reads lines as plain lists do

    files, part = files_and_part(os.fspath(file))
    videos = []
    for path in files:
        reader = split_files.reader_of(path)
        videos += reader(path, root, part) if reader else read_plain_list(path, root)
    if not videos:
        raise UserError(f"{file}: names no video" + (f" of the part {part!r}" if part else ""))
    return videos


def find_videos(folder: str | os.PathLike) -> list[Video]:
    """All video files below a folder, sorted by path; the label is the name of the first folder on the way.

    Files are known by their suffix; hidden files and folders do not count.

    Raises:
        UserError: the folder is missing, is not a folder, or holds no video.
    """
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: {'is not a folder' if os.path.exists(folder) else 'no such folder'}")
    found = []
    for directory, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        first = os.path.relpath(directory, folder).split(os.sep)[0]
        label = None if first == os.curdir else first
        found += [
            Video(os.path.join(directory, name), label)
            for name in names
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    if not found:
        raise UserError(f"{folder}: holds no video ({', '.join(SUFFIXES)})")
    return sorted(found, key=lambda video: video.path)


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
