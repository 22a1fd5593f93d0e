"""Lists of videos, plain ones and the split files of data sets."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from motionops.errors import UserError
from motionops.video.list_lines import Video
from motionops.video.lists import split_files
from motionops.video.lists.columns import named_columns
from motionops.video.lists.plain import read_plain_list
from motionops.video.lists.shards import folder_of, shards_named, videos_of_shards
from motionops.video.sources import written
from motionops.video.sources.addresses import is_tar


def read_list(
    file: str | os.PathLike,
    root: str | os.PathLike | None = None,
    columns: str | Sequence[str] | None = None,
) -> list[Video]:
    """Read a list of videos.

    A plain list has one video a line: ``path label``, ``path,label`` or ``path``. The label is what follows the last
    separator (or all that follows a video's suffix), so paths may hold spaces; paths and labels may be in quotes, as in
    csv files. Blank lines do not count, nor do those that begin with ``#`` unless that begins a video's name. Paths are
    relative to ``root`` or, where ``root`` is None or has no such file, to the list. A first line that names the
    columns (``path,frames,label``) says what they are; a list of more columns without one is refused unless ``columns``
    says it. UTF-8, UTF-16 and names of any bytes are read.

    Split files are recognised as they are distributed, and their videos are looked for under ``root`` (by default the
    list's folder): UCF101 (``trainlist01.txt``, ``testlist01.txt`` with ``classInd.txt`` beside it), HMDB51
    (``*_test_split1.txt``), Kinetics (csv), Diving48 and Something-Something v2 (json). ``file`` may be a
    pattern, as HMDB51's 51 files need one, and ``FILE:train``, ``FILE:test`` or ``FILE:val`` takes one part of
    files that hold several: ``splits/*_test_split1.txt:train``.

    A line that names a tar, or a pattern of tars, stands for all videos in them, and so does ``file`` itself where it
    is one (:func:`find_videos` says how they are named and labelled). A line may name a member of a tar
    (``shards/000.tar/key.mp4``), and an address that fsspec knows (``s3://bucket/key.mp4``).

    Args:
        file: the list.
        root: the folder of the videos, or whatever ``--data`` may name.
        columns: of a plain list, of ``path``, ``frames`` (a number, not believed: frames are counted), ``label``,
            ``labels`` (several: all that follows, so the last column) and ``ignore``; one text with commas will do.

    Returns:
        One :class:`Video` an entry, in the order of the list. Whether the files exist is not checked here.

    Raises:
        UserError: the list is missing, empty, not what its name says, or not of these columns.
    """

    named = named_columns(columns) if columns else None
    file = written(file)
    root = None if root is None else folder_of(written(root))
    if is_tar(file):
        videos = videos_of_shards(shards_named(file))
        if not videos:
            raise UserError(f"{file}: holds no video")
        return videos
    files, part = files_and_part(file)
    videos = []
    for path in files:
        reader = split_files.reader_of(path)
        if named and path.lower().endswith(".json"):
            raise UserError(f"{path}: a json list has no columns; --list-columns is for plain lists")
        videos += reader(path, root, part) if reader and not named else read_plain_list(path, root, named)
    if not videos:
        raise UserError(f"{file}: names no video" + (f" of the part {part!r}" if part else ""))
    return videos


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
