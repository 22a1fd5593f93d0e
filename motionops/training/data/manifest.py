"""videos.jsonl: the videos that a run began with, a line each. Other processes, resumptions and restarts go by it.

A line is a JSON object: ``path``; ``below``, the path from the folder of the data on, which may lie elsewhere on
another machine or later; ``label`` or ``labels``; ``frames``, ``picture`` (height, width) and, where decoding may begin
behind the first frame, ``keys`` (frame:time of key frames); and of a
video that was left out instead the ``reason``. The videos that are used come first, in the order on which the batches
depend.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from motionops.errors import UserError
from motionops.files import written_beside
from motionops.video import Skipped, Video
from motionops.video.counting.key_frames import KeyFrames
from motionops.video.list_lines import OneOfEach
from motionops.video.sources import exists

MANIFEST = "videos.jsonl"
_BELOW = '"below": '


@dataclass
class TrainingVideos:
    """What a run trains on and is measured on; `skipped` cannot be used, each with its reason.

    `folder` is where the data lie, None where nobody said it.
    """

    usable: list[Video]
    skipped: list[Skipped] = field(default_factory=list)
    test: list[Video] = field(default_factory=list)
    folder: str | None = None


def manifest_lines(videos: TrainingVideos) -> Iterator[str]:
    """The lines of the manifest; names that are no UTF-8 come back as they are."""
    for video in videos.usable:
        keys = {"keys": video.keys} if video.keys else {}
        labels = {"labels": video.labels} if video.labels else {"label": video.label} if video.label is not None else {}
        shape = {"frames": video.frames, "picture": video.picture, **keys}
        yield f"{json.dumps({**_place(video.path, videos.folder), **labels, **shape})}\n"
    for path, reason in videos.skipped:
        yield f"{json.dumps({**_place(path, videos.folder), 'reason': reason})}\n"


def parse_manifest(
    lines: Iterable[str], folder: str | os.PathLike | Callable[[], str | os.PathLike] | None
) -> TrainingVideos:
    """The videos of a manifest's lines, in the folder where the data lie here and now (None: as the lines say).

    Args:
        folder: or what finds it out, where the lines say what lies in it.

    Raises:
        UserError: the lines are no manifest.
    """
    lines = iter(lines)
    first = list(itertools.islice(lines, 1))
    if callable(folder):
        folder = folder() if first and _BELOW in first[0] else None
    videos = TrainingVideos([], folder=None if folder is None else os.fspath(folder))
    alike = OneOfEach()
    for number, line in enumerate(itertools.chain(first, lines), start=1):
        try:
            held = json.loads(line)
            path = held["path"]
            if folder is not None and "below" in held:
                path = os.path.join(os.fspath(folder), held["below"])
            if "reason" in held:
                videos.skipped.append(Skipped(path, str(held["reason"])))
            else:
                labels = tuple(held.get("labels", ()))
                label = labels[0] if len(labels) == 1 else held.get("label")
                picture = held.get("picture")
                keys = alike(KeyFrames.read(held.get("keys", "")))
                picture = None if picture is None else alike((int(picture[0]), int(picture[1])))
                video = Video(path, alike(label), alike(int(held["frames"])), alike(labels), picture, keys)
                videos.usable.append(video)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            raise UserError(f"{MANIFEST}: line {number} is damaged; without the file videos are checked anew") from None
    return videos


def write_manifest(file: Path, videos: TrainingVideos) -> None:
    """Write the manifest whole, line by line: the text of a large set is as large as the set."""
    with written_beside(file) as partial, open(partial, "w", encoding="utf-8") as lines:
        lines.writelines(manifest_lines(videos))


def read_manifest(file: Path, folder: str | os.PathLike | None) -> TrainingVideos:
    """As :func:`parse_manifest`, of a file; the error names it."""
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            return parse_manifest(lines, folder)
    except UserError as error:
        raise UserError(f"{file.parent}/{error}") from None


def fingerprint(videos: Sequence[Video]) -> str:
    """Names videos and their order, on which the batches depend."""
    names = hashlib.sha256()
    for number, video in enumerate(videos):
        names.update(b"\n" * bool(number) + os.fsencode("/".join(Path(video.path).parts[-2:])))
    return f"{len(videos)} videos, {names.hexdigest()[:16]}"


def not_listed(videos: Sequence[Video], listed: Iterable[Video], folder: str | None) -> list[Video]:
    """Those of the videos that a list lacks, by their places in the folder of the data."""
    names = {_name(video.path, folder) for video in listed}
    return [video for video in videos if _name(video.path, folder) not in names]


def in_folder(videos: Sequence[Video], before: str | None, now: str | None) -> list[Video]:
    """Videos of a folder as they lie in another one, that of another machine."""
    if before is None or now is None:
        return list(videos)
    places = ((_name(video.path, before), video) for video in videos)
    return [video if name == video.path else replace(video, path=os.path.join(now, name)) for name, video in places]


def still_there(videos: Sequence[Video]) -> bool:
    """Whether one of the videos can still be found."""
    return any(exists(video.path) for video in videos)


def _place(path: str, folder: str | None) -> dict[str, str]:
    name = _name(path, folder)
    return {"path": path} if name == path else {"path": path, "below": name}


def _name(path: str, folder: str | None) -> str:
    start = os.path.join(folder, "") if folder is not None else None
    return path[len(start) :] if start is not None and path.startswith(start) else path
