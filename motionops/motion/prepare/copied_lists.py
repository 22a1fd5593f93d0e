"""Lists of videos beside copies of the videos: the same names, and paths that lead to the copies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from motionops.files import replace_text
from motionops.video.list_lines import SUFFIXES, locate, split_line
from motionops.video.lists.folders import walk
from motionops.video.lists.plain import is_a_name
from motionops.video.lists.split_files import reader_of
from motionops.video.lists.text import lines_of, read_text

LISTS = (".txt", ".csv", ".json")
CLASS_INDEX = "classInd.txt"  # UCF101's lists need it beside them


def copy_lists(data: Path, output: Path) -> None:
    """Copy the lists anywhere below ``data`` to the same places below ``output``."""
    for directory, names in walk(data):
        for name in names:
            if name.lower().endswith(LISTS):
                _copy(Path(directory, name), data, output / os.path.relpath(directory, data) / name, output)


def copy_list(file: Path, data: Path, output: Path) -> None:
    """Copy a list of videos below ``data``: to the same place below ``output``, or into it where it lies elsewhere."""
    relative = os.path.relpath(file, data)
    if relative.split(os.sep)[0] != os.pardir:
        return  # copy_lists has copied it
    _copy(file, data, output / file.name, output)
    index = file.with_name(CLASS_INDEX)
    if index.is_file():
        shutil.copyfile(index, output / CLASS_INDEX)


def _copy(file: Path, data: Path, target: Path, output: Path) -> None:
    """Copy one list. Split files name videos in their own ways, which fit any folder; a plain list names paths."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix.lower() != ".txt" or reader_of(os.fspath(file)) is not None:
        shutil.copyfile(file, target)
        return
    lines = [_line(line, file, data, target, output) for line in lines_of(read_text(os.fspath(file)))]
    replace_text(target, "\n".join(lines))


def _line(line: str, file: Path, data: Path, target: Path, output: Path) -> str:
    """A line of a plain list, whose path is written anew where it would not lead to the copy."""
    path = split_line(line)[0]
    if not path.lower().endswith(SUFFIXES) or (line.startswith("#") and not is_a_name(line, os.fspath(file), data)):
        return line
    relative = os.path.relpath(locate(path, os.fspath(file), data), data)
    if relative.split(os.sep)[0] == os.pardir:
        return line  # a video that is not copied
    copy = os.path.abspath(output / relative)
    leads_to = (os.path.abspath(os.path.join(folder, path)) for folder in (output, target.parent))
    return line if copy in leads_to else line.replace(path, os.path.relpath(copy, target.parent), 1)
