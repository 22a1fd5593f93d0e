"""Motion maps of whole videos on disk: one SQLite file, coarse maps in a byte a cell.

A video is written whole or not at all, so a killed run leaves a file that the next one continues.
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from motionops.errors import UserError
from motionops.video.lists import Video
from motionops.video.reading import VideoError

COMMAND = "python -m motionops.video.prepare motion"
TABLES = """
CREATE TABLE IF NOT EXISTS settings (one INTEGER PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS videos (
    path TEXT PRIMARY KEY, tail TEXT, size INTEGER, mtime_ns INTEGER, shape TEXT, scale REAL, maps BLOB
);
CREATE INDEX IF NOT EXISTS tails ON videos (tail);
"""
LEVELS = 255


class MotionFile:
    """Prepared motion maps of a set of videos, for reading, from any number of processes.

    Args:
        path: what `prepare motion` wrote.

    Raises:
        UserError: no such file, or another one; the text names the command that makes it.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.file = Path(path)
        if not self.file.is_file():
            raise UserError(f"there is no motion file {self.file}; {self.command()} makes it")
        self.settings = self._read_settings()

    def read(self, video: str | os.PathLike) -> torch.Tensor:
        """The motion maps of a video: float32 `[F, h, w]`, non-negative, a map a frame.

        A video is found by its whole path or, where the data have moved, by its file's and its folder's name.

        Raises:
            UserError: the file does not hold the video; the text names the command that adds it.
        """
        shape, scale, maps = self._find(video, "shape, scale, maps")
        levels = np.frombuffer(zlib.decompress(maps), dtype=np.uint8).reshape(json.loads(shape))
        # Square roots were stored: small motion keeps its differences.
        return torch.from_numpy((levels.astype(np.float32) / LEVELS) ** 2 * np.float32(scale))

    def require(self, videos: Iterable[Video]) -> None:
        """UserError where one of the videos is not in the file, or is another one than when its motion was computed.

        The size in bytes is compared, and the number of frames where it is known; the time of change is not, since a
        copy of the data may have another one.
        """
        for video in videos:
            size, shape = self._find(video.path, "size, shape")
            before, now = f"{size} bytes", f"{video_state(video.path)[0]} bytes"
            if before == now and video.frames is not None:
                before, now = f"{json.loads(shape)[0]} frames", f"{video.frames} frames"
            if before != now:
                raise UserError(
                    f"{video.path} has {now} and had {before} when its motion was computed; {self.command()} computes "
                    "it again"
                )

    def command(self) -> str:
        """What a person types to make or complete the file."""
        return f"{COMMAND} --data DIR --output {self.file}"

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_opened"}

    def _read_settings(self) -> dict:
        try:
            row = self._connection().execute("SELECT value FROM settings").fetchone()
            self._connection().execute("SELECT size FROM videos LIMIT 1")  # files of earlier versions have none
        except sqlite3.DatabaseError as error:
            raise UserError(f"{self.file} is not a motion file ({error}); {self.command()} makes one") from error
        return {} if row is None else json.loads(row[0])

    def _find(self, video: str | os.PathLike, columns: str) -> tuple:
        columns = f"SELECT {columns} FROM videos WHERE"
        path = os.path.realpath(video)
        rows = self._connection().execute(f"{columns} path = ?", (path,)).fetchall()
        rows = rows or self._connection().execute(f"{columns} tail = ? LIMIT 2", (tail(path),)).fetchall()
        if len(rows) != 1:
            raise UserError(f"{self.file} holds no motion of {video}; {self.command()} adds it")
        return rows[0]

    def _connection(self) -> sqlite3.Connection:
        """A connection of this process: SQLite's must not be carried over a fork."""
        process, connection = getattr(self, "_opened", (None, None))
        if process != os.getpid():
            connection = sqlite3.connect(f"{self.file.absolute().as_uri()}?mode=ro", uri=True)
            self._opened = (os.getpid(), connection)
        return connection


class MotionWriter:
    """The same file for writing; made where it is not there yet.

    Args:
        path: the file.
        settings: how its maps are made; a file of other settings is refused.

    Raises:
        UserError: a file of other settings, or no motion file; a folder that cannot be written.
    """

    def __init__(self, path: str | os.PathLike, settings: dict) -> None:
        self.file = Path(path)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(self.file, timeout=60)
            with self.connection:
                self.connection.executescript(TABLES)
                self.connection.execute("INSERT OR IGNORE INTO settings VALUES (0, ?)", (json.dumps(settings),))
            made = json.loads(self.connection.execute("SELECT value FROM settings").fetchone()[0])
            self.connection.execute("SELECT size FROM videos LIMIT 1")
        except (sqlite3.DatabaseError, OSError) as error:
            raise UserError(f"--output: {self.file}: {error}") from error
        if made != settings:
            before = ", ".join(f"{name} {value}" for name, value in made.items() if settings.get(name) != value)
            raise UserError(f"--output: {self.file} was made with {before}; name another file or delete it")

    def missing(self, videos: Sequence[Video]) -> list[Video]:
        """Those of the videos that the file does not hold, or whose size or time of change is another one now."""
        rows = self.connection.execute("SELECT path, size, mtime_ns FROM videos")
        done = {path: tuple(state) for path, *state in rows}

        def up_to_date(video: Video) -> bool:
            try:
                return done.get(os.path.realpath(video.path)) == video_state(video.path)
            except VideoError:
                return False

        return [video for video in videos if not up_to_date(video)]

    def write(self, video: str | os.PathLike, motion: torch.Tensor, state: tuple[int, int] | None = None) -> int:
        """Add the maps `[F, h, w]` of a video, or put them in the place of its earlier ones; the bytes they take.

        `state` is the :func:`video_state` from before it was read: a change while it was read must not go unseen.
        """
        scale = float(motion.max()) if motion.numel() else 0.0
        levels = (motion / scale).sqrt().mul(LEVELS).round() if scale > 0 else torch.zeros_like(motion)
        maps = zlib.compress(levels.to(torch.uint8).numpy().tobytes(), 6)
        path = os.path.realpath(video)
        with self.connection:
            row = (path, tail(path), *(state or video_state(path)), json.dumps(list(motion.shape)), scale, maps)
            self.connection.execute("INSERT OR REPLACE INTO videos VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return len(maps)

    def close(self) -> None:
        self.connection.close()


def video_state(path: str | os.PathLike) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds. VideoError where there is no such file."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise VideoError(path, (error.strerror or str(error)).lower()) from error
    return status.st_size, status.st_mtime_ns


def tail(path: str) -> str:
    """Folder and name of a video."""
    return "/".join(Path(path).parts[-2:])
