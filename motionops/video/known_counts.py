"""What checking found out about videos, kept between runs: counting by decoding takes hours for a large set.

A file of lines that is only appended to, one JSON record a video: two runs can write at once, a killed run keeps what
it had, and a line that was cut is passed over. A record counts for a file as long as its size and time of change, and
the version of PyAV, are the same. Failures are not kept: they are few, and what was wrong (a permission, a network
disk) may be mended without a change to the file.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from motionops.video.cache import cache_folder
from motionops.video.pyav import require_av


def default_file() -> Path:
    """The file in the cache folder."""
    return cache_folder() / "frame_counts.jsonl"


class KnownCounts:
    """Number of frames by video file.

    Args:
        file: the records; a missing file is made. One that cannot be read or written is done without.
    """

    def __init__(self, file: str | os.PathLike) -> None:
        self.file = Path(file)
        self.decoder = require_av().__version__
        self.lock = threading.Lock()
        self.records: dict[str, list] = {}
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            lines = []
        for line in lines:
            try:
                path, *record = json.loads(line)
                self.records[path] = record
            except (ValueError, TypeError):
                continue

    def get(self, path: str) -> int | None:
        """Number of frames, or None where nothing is known of the file as it is now."""
        record = self.records.get(os.path.abspath(path))
        if record is None or record[:-1] != self._state(path) or not isinstance(record[-1], int):
            return None
        return record[-1]

    def put(self, path: str, frames: int) -> None:
        """Remember how many frames a file has."""
        state = self._state(path)
        if state is None:
            return
        line = json.dumps([os.path.abspath(path), *state, frames]) + "\n"
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
