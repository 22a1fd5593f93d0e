"""What checking found out about videos, kept between runs: counting by decoding takes hours for a large set.

A file of lines that is only appended to, one JSON record a video: two runs can write at once, a killed run keeps what
it had, and a line that was cut or damaged, which its check sum tells, is passed over. A record counts for a file as
long as its size and time of change, and the version of PyAV, are the same. Failures are not kept: they are few, and
what was wrong (a permission, a network disk) may be mended without a change to the file.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from pathlib import Path

from motionops.extras import require_av
from motionops.video.cache import cache_folder


def default_file() -> Path:
    """The file in the cache folder."""
    return cache_folder() / "frame_counts.jsonl"


class KnownCounts:
    """Number of frames, height and width by video file.

    Args:
        file: the records; a missing file is made. One that cannot be read or written is done without.
    """

    def __init__(self, file: str | os.PathLike) -> None:
        self.file = Path(file)
        self.decoder = require_av().__version__
        self.lock = threading.Lock()
        self.records: dict[str, list] = {}
        try:
            lines = self.file.read_bytes().splitlines()
        except OSError:
            lines = []
        for line in lines:
            try:
                record, check = json.loads(line)
                if check == _check(record):
                    self.records[record[0]] = record[1:]
            except (ValueError, TypeError, IndexError, KeyError, RecursionError):
                continue

    def get(self, path: str) -> list[int] | None:
        """Frames, height and width, or None where nothing is known of the file as it is now."""
        record = self.records.get(os.path.abspath(path))
        if record is None or record[:-1] != self._state(path) or not _is_shape(record[-1]):
            return None
        return record[-1]

    def put(self, path: str, shape: list[int]) -> None:
        """Remember frames, height and width of a file."""
        state = self._state(path)
        if state is None:
            return
        record = [os.path.abspath(path), *state, shape]
        line = json.dumps([record, _check(record)]) + "\n"
        with self.lock:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with open(self.file, "a", encoding="utf-8") as file:
                    file.write(line)
            except OSError:
                pass  # a full or unwritable cache costs time in the next run, nothing else

    def _state(self, path: str) -> list | None:
        try:
            status = os.stat(path)
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns, self.decoder]


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(side, int) for side in value)


def _check(record: list) -> int:
    return zlib.crc32(json.dumps(record).encode())
