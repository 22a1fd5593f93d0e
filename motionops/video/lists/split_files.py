"""The split files of UCF101, HMDB51, Kinetics, Diving48 and Something-Something v2, read as they are distributed.

A reader takes (file, root, part) and returns videos. Where a split file has numbers for classes, the label is the
number; where it has names, the name. Videos that a data set names without a folder are looked for anywhere below root.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable

from motionops.errors import UserError
from motionops.video.list_lines import Video, locate, split_line
from motionops.video.lists.folders import video_paths
from motionops.video.lists.plain import read_plain_list
from motionops.video.lists.text import read_lines, read_text

Reader = Callable[[str, "str | os.PathLike | None", "str | None"], list[Video]]


def reader_of(file: str) -> Reader | None:
    """The reader of a split file, by its name and first words; None for a plain list."""
    name = os.path.basename(file).lower()
    if re.fullmatch(r"testlist\d+\.txt", name):
        return _read_ucf_test
    if re.fullmatch(r".+_test_split\d+\.txt", name):
        return _read_hmdb
    if name.endswith(".csv") and "youtube_id" in read_text(file).split("\n", 1)[0]:
        return _read_kinetics
    if name.endswith(".json"):
        return _read_json
    return None


def _read_ucf_test(file: str, root: str | os.PathLike | None, part: str | None) -> list[Video]:
    """UCF101 ``class/file.avi`` without a label: the class is the folder, its number stands in ``classInd.txt``."""
    index = os.path.join(os.path.dirname(file), "classInd.txt")
    if not os.path.exists(index):
        return read_plain_list(file, root)
    numbers = {name: number for number, name in (line.split(maxsplit=1) for line in read_lines(index))}
    videos = []
    for line in read_lines(file):
        path, label = split_line(line)
        name = path.replace("\\", "/").split("/")[0]
        if label is None and name not in numbers:
            raise UserError(f"{file}: class {name!r} of {path} is not in {index}")
        videos.append(Video(locate(path, file, root), label or numbers[name]))
    return videos


def _read_hmdb(file: str, root: str | os.PathLike | None, part: str | None) -> list[Video]:
    """HMDB51 ``file.avi 1``: 1 is train, 2 is test, 0 is neither; the class is in the name of the split file."""
    name = re.sub(r"_test_split\d+\.txt$", "", os.path.basename(file), flags=re.IGNORECASE)
    wanted = {None: ("1", "2"), "train": ("1",), "test": ("2",), "val": ()}[part]
    videos = []
    for line in read_lines(file):
        path, code = split_line(line)
        if code not in ("0", "1", "2"):
            raise UserError(f"{file}: expected 'file.avi 0|1|2', got {line!r}")
        if code in wanted:
            videos.append(Video(locate(os.path.join(name, path), file, root), name))
    return videos


def _read_kinetics(file: str, root: str | os.PathLike | None, part: str | None) -> list[Video]:
    """Kinetics csv with label, youtube_id, time_start, time_end, split; files ``<id>_<start>_<end>.mp4``."""
    rows = list(csv.DictReader(io.StringIO(read_text(file))))
    found = _Found(file, root)
    videos = []
    for row in rows:
        if part is not None and row.get("split") and not row["split"].strip().startswith(part):
            continue
        name = row["youtube_id"].strip()
        try:
            full = f"{name}_{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{file}: {name}: time_start and time_end must be numbers") from None
        label = (row.get("label") or "").strip() or None
        videos.append(Video(found.path(full, name, folder=label or ""), label))
    return videos


def _read_json(file: str, root: str | os.PathLike | None, part: str | None) -> list[Video]:
    """Diving48 (``vid_name``, ``label``) and Something-Something v2 (``id``, ``template``): a list of records."""
    try:
        records = json.loads(read_text(file))
    except ValueError as error:
        raise UserError(f"{file}: is not json ({error})") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise UserError(f"{file}: expected a list of records of Diving48 or Something-Something v2")
    found = _Found(file, root)
    if all("vid_name" in record for record in records):
        return [
            Video(found.path(str(record["vid_name"])), str(record["label"]) if "label" in record else None)
            for record in records
        ]
    if all("id" in record for record in records):
        numbers = _something_numbers(file)
        return [Video(found.path(str(record["id"])), _something_label(file, record, numbers)) for record in records]
    raise UserError(f"{file}: expected records with vid_name (Diving48) or id (Something-Something v2)")


def _something_label(file: str, record: dict, numbers: dict[str, str]) -> str | None:
    """The class is the template without its brackets; its number where the labels' file is there."""
    if "template" not in record:
        return None
    name = record["template"].replace("[", "").replace("]", "")
    if numbers and name not in numbers:
        raise UserError(f"{file}: template {name!r} of video {record['id']} is not in the labels' file")
    return numbers.get(name, name)


def _something_numbers(file: str) -> dict[str, str]:
    """``{"Class name": "number"}`` of the labels' file beside the split file; empty where there is none."""
    folder = os.path.dirname(file) or os.curdir
    for name in sorted(os.listdir(folder)):
        if re.fullmatch(r"(something-something-v2-)?labels\.json", name):
            path = os.path.join(folder, name)
            try:
                return {str(label): str(number) for label, number in json.loads(read_text(path)).items()}
            except (ValueError, AttributeError):
                raise UserError(f"{path}: expected {{'class name': 'number', ...}}") from None
    return {}


class _Found:
    """Video files below the root, by name without suffix; the tree is walked once, and only when asked."""

    def __init__(self, file: str, root: str | os.PathLike | None) -> None:
        self.root = os.fspath(root) if root is not None else os.path.dirname(file) or os.curdir
        self.by_name: dict[str, str] | None = None

    def path(self, *names: str, folder: str = "") -> str:
        """The file of the first of ``names`` that is there, else where the first one should be."""
        if self.by_name is None:
            self.by_name = {}
            for path in video_paths(self.root):
                self.by_name.setdefault(os.path.splitext(os.path.basename(path))[0], path)
        for name in names:
            if name in self.by_name:
                return self.by_name[name]
        return os.path.join(self.root, folder, f"{names[0]}.mp4")
