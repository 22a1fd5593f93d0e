"""Names for classes that a list has by number, for pictures."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from motionops.errors import UserError
from motionops.video import Video
from motionops.video.lists.text import read_lines


def class_titles(folder: str | os.PathLike) -> dict[str, str]:
    """Number -> name, of UCF101's ``classInd.txt`` ("1 ApplyEyeMakeup") or a ``classes.txt`` (a name a line, from 0).

    Empty where the folder has neither, or it is something else.
    """
    try:
        if (Path(folder) / "classInd.txt").exists():
            return dict(line.split(maxsplit=1) for line in read_lines(str(Path(folder) / "classInd.txt")))
        return {str(number): name for number, name in enumerate(read_lines(str(Path(folder) / "classes.txt")))}
    except (UserError, ValueError):
        return {}


def titled(videos: Sequence[Video], titles: dict[str, str]) -> list[Video]:
    """The videos with the names of their classes as labels, where all of them have one; else as they are."""
    if not all(video.label in titles for video in videos):
        return list(videos)
    return [dataclasses.replace(video, label=titles[video.label]) for video in videos]
