"""What checking found out about videos, kept between runs: for a large set it takes hours.

A file of lines that is only appended to, one JSON record a video: two runs can write at once, a killed run keeps what
it had, and a line that was cut or damaged, which its check sum tells, is passed over. A record counts for a file as
long as its size and time of change, and the version of PyAV, are the same. Failures are not kept: they are few, and
what was wrong (a permission, a network disk) may be mended without a change to the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from motionops.errors import UserError
from motionops.extras import require_av
from motionops.video.cache import cache_folder
from motionops.video.counting.contents import Contents
from motionops.video.counting.key_frames import KeyFrames
from motionops.video.sources import State, VideoError, absolute, state

MOST_LINE = 1 << 20  # bytes of a line that is looked at to tell what a file is
NUMBERS = struct.Struct("<qqqii?")  # of a record in memory: size, time of change, frames, height, width, decoded


def default_file() -> Path:
    """The file in the cache folder."""
    return cache_folder() / "frame_counts.jsonl"


def file_state(path: str) -> State | None:
    """What tells a video from what becomes of it later; None where there is none."""
    try:
        return state(path)
    except (OSError, VideoError):
        return None


class KnownCounts:
    """What is known of video files.

    Args:
        file: the records; a missing file is made. One that cannot be read or written is done without.
        paths: the videos that will be asked for: what else the file holds takes no memory. None: all that it holds.
    """

    def __init__(self, file: str | os.PathLike, paths: Iterable[str] | None = None) -> None:
        self.file = Path(file)
        self.version = require_av().__version__
        wanted = None if paths is None else {path: path for path in map(_absolute, paths)}
        self.records: dict[str, bytes] = {}
        with contextlib.suppress(OSError), open(self.file, "rb") as lines:
            for line in lines:
                if (record := _read(line)) is None or record[3] != self.version:
                    continue
                path = record[0] if wanted is None else wanted.get(record[0])
                if path is not None:
                    self.records[path] = packed(tuple(record[1:3]), Contents(*record[4]))

    def get(self, path: str) -> Contents | None:
        """What is known of a file as it is now."""
        record = self.record(path)
        return None if record is None else unpacked(record)

    def record(self, path: str) -> bytes | None:
        """The same, packed."""
        record = self.records.get(absolute(path))
        return record if record is not None and NUMBERS.unpack_from(record)[:2] == file_state(path) else None

    def put(self, path: str, state: State | None, contents: Contents) -> None:
        """Remember what was found in a file that was in this state before it was read."""
        if state is None:
            return
        record = json.dumps([absolute(path), *state, self.version, contents])
        with contextlib.suppress(OSError):  # a full or unwritable cache costs time in the next run, nothing else
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.file, "ab", buffering=0) as file:
                file.write(f"[{record}, {zlib.crc32(record.encode())}]\n".encode())


def _absolute(path: str) -> str:
    """The absolute path; of one that is absolute the same string, not another that is equal."""
    found = absolute(path)
    return path if found == path else found


def packed(state: State, contents: Contents) -> bytes:
    """What is in a file, and the state that it was in: small, for a million of them are in memory at a time."""
    frames, height, width, keys, decoded = contents
    return NUMBERS.pack(*state, frames, height, width, decoded) + keys.encode()


def unpacked(record: bytes) -> Contents:
    """What is in a file."""
    *_, frames, height, width, decoded = NUMBERS.unpack_from(record)
    return Contents(frames, height, width, KeyFrames(record[NUMBERS.size :].decode()), decoded)


def holds_counts(file: Path) -> bool:
    """Whether a file is one of records, or empty."""
    if not file.is_file():
        return False
    with open(file, "rb") as lines:
        first = lines.readline(MOST_LINE)
    return not first or _read(first) is not None


def add_counts(file: Path, part: Path) -> int:
    """Append the records of another file that are not in this one yet; how many those are.

    Raises:
        UserError: the file cannot be written.
    """
    held = set()
    with contextlib.suppress(OSError), open(file, "rb") as lines:
        held = {hash(line) for line in lines}
    added = 0
    try:
        with open(part, "rb") as lines, open(file, "ab") as out:
            for line in lines:
                if hash(line) not in held and _read(line) is not None:
                    out.write(line)
                    added += 1
    except OSError as error:
        raise UserError(f"--output: cannot write {file}: {error.strerror}") from error
    return added


def _read(line: bytes) -> list | None:
    """The record of a line; None where it is damaged, or none."""
    text, _, check = line.rstrip(b"\n").rpartition(b", ")
    if check != b"%d]" % zlib.crc32(text[1:]):
        return None
    try:
        record = json.loads(text[1:])
        path, size, changed, version, (frames, height, width, keys, decoded) = record
        NUMBERS.pack(size, changed, frames, height, width, decoded)
        KeyFrames.read(keys)
    except (ValueError, TypeError, RecursionError, struct.error):
        return None
    return record if isinstance(path, str) and isinstance(version, str) else None
