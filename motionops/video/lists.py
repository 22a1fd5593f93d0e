"""Which videos there are: lists and class folders. The published split files are read by ``split_files``."""

from __future__ import annotations

import os
from collections.abc import Sequence

from motionops.errors import UserError
from motionops.video import split_files
from motionops.video.list_lines import SUFFIXES, Video, files_and_part, read_plain_list


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


def check_lists(train: Sequence[Video], test: Sequence[Video]) -> None:
    """Raise UserError where an evaluation is impossible: an empty list, a video without a label, no common class."""
    for name, videos in (("train", train), ("test", test)):
        if not videos:
            raise UserError(f"the {name} list holds no video")
        unlabelled = [video.path for video in videos if video.label is None]
        if unlabelled:
            raise UserError(
                f"the {name} list has {len(unlabelled)} videos without a label, the first is {unlabelled[0]}; "
                "retrieval needs the class of each"
            )
    if not {video.label for video in train} & {video.label for video in test}:
        raise UserError("train and test lists have no class in common; are both labelled by number or by name?")
