"""What was computed of videos once, kept in SQLite: which videos a file holds, and whether they are still the same.

A video is written whole or not at all, so a killed run leaves a file that the next one continues. A kind of file is a
:class:`Kind`; its reader is a subclass of :class:`PreparedFile`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import ClassVar, NamedTuple

from motionops.errors import UserError
from motionops.video.list_lines import Video
from motionops.video.reading import VideoError
from motionops.video.sources import is_address, real, state, tried_again
from motionops.video.sources.addresses import in_tar

AT_ONCE = 1024  # videos that are looked up under one lock


class Kind(NamedTuple):
    """A kind of prepared file: what it holds, the command that makes it, and its tables."""

    what: str  # "motion": as messages call it
    program: str  # the command without its arguments
    columns: tuple[str, ...]  # of the table `videos`, beside those that every kind has
    pieces: str = ""  # a further table, whose column `video` is the number of a video: its name
    piece_columns: tuple[str, ...] = ()  # and its other columns; the first is one piece's key beside the video

    def script(self) -> str:
        """The SQL that makes the tables where they are not there yet."""
        pieces = ""
        if self.pieces:
            key = self.piece_columns[0].split()[0]
            columns = f"video INTEGER, {', '.join(self.piece_columns)}, PRIMARY KEY (video, {key})"
            pieces = f"CREATE TABLE IF NOT EXISTS {self.pieces} ({columns}) WITHOUT ROWID;"
        return f"""
            CREATE TABLE IF NOT EXISTS settings (one INTEGER PRIMARY KEY, value TEXT);
            CREATE TABLE IF NOT EXISTS videos (
                number INTEGER PRIMARY KEY, path TEXT UNIQUE, tail TEXT, size INTEGER, mtime_ns INTEGER,
                frames INTEGER, {", ".join(self.columns)}
            );
            CREATE INDEX IF NOT EXISTS tails ON videos (tail);
            {pieces}
        """

    def check(self, connection: sqlite3.Connection) -> None:
        """sqlite3.DatabaseError where the table of videos is another one, as in files of earlier versions."""
        names = ", ".join(column.split()[0] for column in self.columns)
        connection.execute(f"SELECT number, size, frames, {names} FROM videos LIMIT 1")


class PreparedFile:
    """A file for reading, from any number of processes.

    Args:
        path: what the command of its kind wrote.

    Raises:
        UserError: no such file, or another one; the text names the command that makes it.
    """

    kind: ClassVar[Kind]

    def __init__(self, path: str | os.PathLike) -> None:
        self.file = Path(path)
        what = self.kind.what
        if not self.file.is_file():
            raise UserError(f"there is no {what} file {self.file}; {self.command()} makes it")
        try:
            row = self.connection().execute("SELECT value FROM settings").fetchone()
            self.kind.check(self.connection())
            self.settings = {} if row is None else dict(json.loads(row[0]))
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            raise UserError(f"{self.file} is not a {what} file ({error}); {self.command()} makes one") from error

    def require(self, videos: Iterable[Video]) -> None:
        """UserError where one of the videos is not in the file, or is another one than when it was prepared.

        The size in bytes is compared, and the number of frames where it is known; the time of change is not, since a
        copy of the data may have another one.
        """
        followed = Followed()
        for some in in_lots(videos):
            with self.at_one_time():
                for video in some:
                    self.require_one(video, *followed(video.path))

    def require_one(self, video: Video, path: str, state: tuple[int, int] | None) -> None:
        """The same of one video, which really lies at this path and is in this state."""
        size, frames = self._find(video.path, path, "size, frames")
        if state is None:
            return  # it is not there any more, which whoever reads it says
        before, now = f"{size} bytes", f"{state[0]} bytes"
        if before == now and video.frames is not None:
            before, now = f"{frames} frames", f"{video.frames} frames"
        if before != now:
            raise UserError(
                f"{video.path} has {now} and had {before} when its {self.kind.what} was computed; "
                f"{self.command()} computes it again"
            )

    @contextmanager
    def at_one_time(self) -> Iterator[None]:
        """What is read inside is read under one lock, not one each; no writer gets at the file until then."""
        with self.undamaged(self.file):
            self.connection().execute("BEGIN")
        try:
            yield
        finally:
            self.connection().rollback()

    def find(self, video: str | os.PathLike, columns: str) -> tuple:
        """Columns of a video, found by its whole path or, where the data have moved, by its folder's and file's name.

        Raises:
            UserError: the file does not hold the video; the text names the command that adds it.
        """
        return self._find(video, real(video), columns)

    def _find(self, video: str | os.PathLike, path: str, columns: str) -> tuple:
        query = f"SELECT {columns} FROM videos WHERE"
        with self.undamaged(video):
            rows = self.connection().execute(f"{query} path = ?", (as_text(path),)).fetchall()
            rows = rows or self.connection().execute(f"{query} tail = ? LIMIT 2", (tail(path),)).fetchall()
        if len(rows) != 1:
            raise UserError(f"{self.file} holds no {self.kind.what} of {video}; {self.command()} adds it")
        return rows[0]

    @contextmanager
    def undamaged(self, video: str | os.PathLike) -> Iterator[None]:
        """UserError where what is read of a video inside is not what was written."""
        try:
            yield
        except (sqlite3.DatabaseError, zlib.error, ValueError, TypeError) as error:
            raise UserError(
                f"{self.file} is damaged at {os.fspath(video)} ({error}); delete it, {self.command()} makes it again"
            ) from error

    def command(self) -> str:
        """What a person types to make or complete the file."""
        return f"{self.kind.program} --data DIR --output {self.file}"

    def connection(self) -> sqlite3.Connection:
        """A connection of this process: SQLite's must not be carried over a fork."""
        process, connection = getattr(self, "_opened", (None, None))
        if process != os.getpid():
            connection = sqlite3.connect(f"{self.file.absolute().as_uri()}?mode=ro", uri=True)
            self._opened = (os.getpid(), connection)
        return connection

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_opened"}


class PreparedWriter:
    """A file for writing; made where it is not there yet.

    Args:
        path: the file.
        kind: what it holds.
        settings: how that is made; a file of other settings is refused.

    Raises:
        UserError: a file of other settings or of another kind; a folder that cannot be written.
    """

    def __init__(self, path: str | os.PathLike, kind: Kind, settings: dict) -> None:
        self.file, self.kind = Path(path), kind
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(self.file.absolute().as_uri(), timeout=60, uri=True)
            with self.connection:
                self.connection.executescript(kind.script())
                self.connection.execute("INSERT OR IGNORE INTO settings VALUES (0, ?)", (json.dumps(settings),))
            made = json.loads(self.connection.execute("SELECT value FROM settings").fetchone()[0])
            kind.check(self.connection)
        except (sqlite3.DatabaseError, OSError) as error:
            raise UserError(f"--output: {self.file}: {error}") from error
        if made != settings:
            before = ", ".join(f"{name} {value}" for name, value in made.items() if settings.get(name) != value)
            raise UserError(f"--output: {self.file} was made with {before}; name another one or delete it")

    def missing(self, videos: Sequence[Video]) -> list[Video]:
        """Those of the videos that the file does not hold, or whose size or time of change is another one now."""
        done, followed = self.states(), Followed()

        def up_to_date(video: Video) -> bool:
            path, state = followed(video.path)
            return state is not None and done.get(as_text(path)) == state

        return [video for video in videos if not up_to_date(video)]

    def states(self) -> dict[str, tuple[int, int]]:
        """What state each video was in that the file holds, by the text of its path."""
        rows = self.connection.execute("SELECT path, size, mtime_ns FROM videos")
        return {path: tuple(state) for path, *state in rows}

    def add(
        self,
        video: str | os.PathLike,
        state: tuple[int, int],
        frames: int,
        values: Sequence,
        more: Callable[[sqlite3.Connection, int], None] | None = None,
    ) -> None:
        """Add a video, or put it in the place of an earlier state of it.

        Args:
            video: its path.
            state: the :func:`video_state` from before it was read: a change while it was read must not go unseen.
            frames: it has.
            values: of the kind's columns.
            more: fills further tables, within the same transaction, of the video with the number it is given.
        """
        path = real(video)
        with self.connection:
            known = self.connection.execute("SELECT number FROM videos WHERE path = ?", (as_text(path),)).fetchone()
            row = (known and known[0], as_text(path), tail(path), *state, frames, *values)
            places = ", ".join("?" * len(row))
            number = self.connection.execute(f"INSERT OR REPLACE INTO videos VALUES ({places})", row).lastrowid
            if more is not None:
                more(self.connection, number)

    def take(self, part: Path) -> int:
        """Add the videos of another file of this kind that are not here in the same state; how many those were.

        Raises:
            UserError: it was made with other settings, or is none of this kind.
        """
        if (made := file_settings(part, self.kind)) != (own := file_settings(self.file, self.kind)):
            raise UserError(f"{part} was made with {made}, {self.file} with {own}: they are not of one set")
        columns = [column.split()[0] for column in self.kind.columns]
        kept = ", ".join(["path", "tail", "size", "mtime_ns", "frames", *columns])
        pieces = ", ".join(column.split()[0] for column in self.kind.piece_columns)
        run = self.connection.execute
        run("ATTACH ? AS part", (f"{part.absolute().as_uri()}?mode=ro",))
        try:
            new = run(
                "SELECT number, path FROM part.videos AS there WHERE NOT EXISTS (SELECT 1 FROM main.videos AS here "
                "WHERE here.path = there.path AND here.size = there.size AND here.mtime_ns = there.mtime_ns)"
            ).fetchall()
            for number, path in new:
                with self.connection:  # a video whole or not at all
                    known = run("SELECT number FROM main.videos WHERE path = ?", (path,)).fetchone()
                    query = f"INSERT OR REPLACE INTO main.videos (number, {kept}) SELECT ?, {kept} FROM part.videos"
                    own = run(f"{query} WHERE number = ?", (known and known[0], number)).lastrowid
                    if pieces:
                        table = self.kind.pieces
                        run(f"DELETE FROM main.{table} WHERE video = ?", (own,))
                        query = f"INSERT INTO main.{table} (video, {pieces}) SELECT ?, {pieces} FROM part.{table}"
                        run(f"{query} WHERE video = ?", (own, number))
            return len(new)
        except sqlite3.DatabaseError as error:
            raise UserError(f"{part} cannot be joined to {self.file}: {error}") from error
        finally:
            run("DETACH part")

    def close(self) -> None:
        self.connection.close()


def file_settings(file: Path, kind: Kind) -> dict:
    """How a file was made. UserError where it is none of this kind."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            kind.check(connection)
            return json.loads(connection.execute("SELECT value FROM settings").fetchone()[0])
    except (sqlite3.DatabaseError, ValueError, TypeError) as error:
        raise UserError(f"{file} is not a {kind.what} file ({error})") from error


@tried_again
def video_state(path: str | os.PathLike) -> tuple[int, int]:
    """Size in bytes and time of change in nanoseconds. VideoError where there is no such file."""
    try:
        return tuple(state(path))
    except OSError as error:
        raise VideoError(path, (error.strerror or "no such file").lower()) from error


class Followed:
    """Where videos really lie, and their :func:`video_state`, None of one that is not there: of a file that is no link
    for one look at it, since each folder is followed once."""

    def __init__(self) -> None:
        self.folders: dict[str, str] = {}

    def __call__(self, video: str) -> tuple[str, tuple[int, int] | None]:
        folder, name = os.path.split(video)
        if not is_address(video) and in_tar(video) is None and name not in ("", ".", ".."):
            if folder not in self.folders:
                self.folders[folder] = real(folder or ".")
            path = os.path.join(self.folders[folder], name)
            with suppress(OSError):  # what else is there to say of it is said below
                status = os.lstat(path)
                if not stat.S_ISLNK(status.st_mode):
                    return path, (status.st_size, status.st_mtime_ns)
        try:
            return real(video), video_state(video)
        except VideoError:
            return real(video), None


def in_lots(videos: Iterable[Video]) -> Iterator[list[Video]]:
    """As many at a time as writers can wait for."""
    videos = iter(videos)
    while some := list(islice(videos, AT_ONCE)):
        yield some


def tail(path: str) -> str:
    """Folder and name of a video."""
    return as_text("/".join(Path(path).parts[-2:]))


def as_text(path: str) -> str:
    """A path as SQLite takes it: bytes that are no text are written out."""
    return os.fsencode(path).decode(errors="backslashreplace")
