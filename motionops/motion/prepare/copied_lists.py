"""Lists of videos beside copies of the videos: the same names, and paths that lead to the copies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from motionops.files import replace_text
from motionops.video.list_lines import SUFFIXES, locate, read_text, split_line
from motionops.video.split_files import reader_of

LISTS = (".txt", ".csv", ".json")
CLASS_INDEX = "classInd.txt"  # UCF101's lists need it beside them


def copy_lists(data: Path, output: Path) -> None:
    """Copy the lists anywhere below ``data`` to the same places below ``output``."""
    for directory, folders, names in os.walk(data, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(LISTS) and not name.startswith("."):
                _copy(
                    Path(directory, name), data, output / os.path.relpath(os.path.join(directory, name), data), output
                )


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
    lines = [_line(line, file, data, target, output) for line in read_text(os.fspath(file)).splitlines()]
    replace_text(target, "".join(f"{line}\n" for line in lines))


def _line(line: str, file: Path, data: Path, target: Path, output: Path) -> str:
    """A line of a plain list, whose path is written anew where it would not lead to the copy."""
    path = split_line(line.strip())[0]
    if line.lstrip().startswith("#") or not path.lower().endswith(SUFFIXES):
        return line
    relative = os.path.relpath(locate(path, os.fspath(file), data), data)
    if relative.split(os.sep)[0] == os.pardir:
        return line  # a video that is not copied
    copy = os.path.abspath(output / relative)
    leads_to = (os.path.abspath(os.path.join(folder, path)) for folder in (output, target.parent))
    return line if copy in leads_to else line.replace(path, os.path.relpath(copy, target.parent), 1)
