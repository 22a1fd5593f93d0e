"""Features that were computed once, kept by what they were made of: the backbone, the sampling, the video's bytes.

One SQLite file a backbone and sampling, so that another backbone or another sampling is another file. In it a feature
is found by the content of its video: a video that moved is found again, one that changed is computed again. Features
are written while the extraction runs; what a killed run had is there for the next one. The files may be deleted at any
time. A file that is broken is begun anew; a disk that is full or cannot be written costs time, nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from motionops.commandline import warn
from motionops.extras import require_av
from motionops.video.cache import cache_folder
from motionops.video.sources import VideoError, is_address, open_bytes, real, state

FORMAT = 1  # raised whenever the same settings come to mean other features
_WAIT = 30.0  # seconds for another process that writes to the same file
_TABLES = """
    CREATE TABLE IF NOT EXISTS features (digest BLOB PRIMARY KEY, size INTEGER, check_sum INTEGER, feature BLOB);
    CREATE TABLE IF NOT EXISTS videos (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, digest BLOB);
    CREATE INDEX IF NOT EXISTS sizes ON features (size);
"""

State = tuple[int, int]  # size in bytes, time of change in nanoseconds


def default_folder() -> Path:
    """``features`` in the cache folder."""
    return cache_folder() / "features"


def fingerprint(backbone: nn.Module) -> str:
    """Names a network by its classes, its structure and every weight and buffer: 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    classes = [f"{type(module).__module__}.{type(module).__qualname__}" for module in backbone.modules()]
    digest.update(json.dumps([repr(backbone), classes]).encode())
    for name, tensor in backbone.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class FeatureCache:
    """The features of one backbone under one sampling.

    Args:
        folder: where the files lie; made if need be.
        backbone: whose features they are.
        settings: the sampling, and all else that a feature depends on; what JSON can hold.
        machine: of several that write at once: each but the first has a file of its own, since SQLite's locks may not
            hold on a disk that they share.
    """

    def __init__(self, folder: str | os.PathLike, backbone: nn.Module, settings: Mapping, machine: int = 0) -> None:
        made_with = {**settings, "backbone": fingerprint(backbone), "decoder": require_av().__version__}
        name = hashlib.blake2b(json.dumps([FORMAT, made_with], sort_keys=True).encode(), digest_size=16).hexdigest()
        self.file = Path(folder) / (f"{name}.machine-{machine}.sqlite" if machine else f"{name}.sqlite")
        self.usable = True
        self._states: dict[str, State] = {}

    def read(self, paths: Sequence[str]) -> dict[str, Tensor]:
        """The features, float32 ``[C]``, of those videos that have one and are still what they were."""
        # The states are those from before a video is read: a change while it is read must not go unseen.
        self._states = {path: state for path in paths if (state := _state_now(path)) is not None}
        found: dict[str, Tensor] = {}
        moved: dict[str, bytes] = {}
        if not self.file.exists():
            return found
        with self._connection() as connection:
            for path, state in self._states.items() if connection else ():
                query = "SELECT digest FROM videos WHERE path = ? AND size = ? AND mtime_ns = ?"
                row = connection.execute(query, (_name(path), *state)).fetchone()
                digest = row[0] if row else self._same_content(connection, path, state)
                feature = self._feature(connection, digest)
                if feature is not None:
                    found[path] = feature
                    if row is None:
                        moved[path] = digest
            # At the end: while it is written, nobody else can write.
            for path, digest in moved.items():
                self._remember(connection, path, digest)
        return found

    def write(self, features: Mapping[str, Tensor]) -> None:
        """Add features ``[C]`` by path; those of videos that changed since :meth:`read` are passed over."""
        if not features or not self.usable:
            return
        with self._connection() as connection:
            if connection is None:
                return
            for path, feature in features.items():
                state, digest = self._states.get(path), _digest(path)
                if digest is None or state is None or _state_now(path) != state:
                    continue
                values = feature.detach().cpu().float().contiguous().numpy().tobytes()
                row = (digest, state[0], zlib.crc32(values), values)
                connection.execute("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", row)
                self._remember(connection, path, digest)

    def _same_content(self, connection: sqlite3.Connection, path: str, state: State) -> bytes | None:
        """The digest of a video that is not known under its name and state; None where it cannot be a known one."""
        # Only a video of the same length can be the same, so most of those that are new are not read for this.
        if connection.execute("SELECT 1 FROM features WHERE size = ? LIMIT 1", (state[0],)).fetchone() is None:
            return None
        return _digest(path)

    def _feature(self, connection: sqlite3.Connection, digest: bytes | None) -> Tensor | None:
        row = connection.execute("SELECT check_sum, feature FROM features WHERE digest = ?", (digest,)).fetchone()
        if row is None or zlib.crc32(row[1]) != row[0] or len(row[1]) % 4:
            return None
        return torch.from_numpy(np.frombuffer(row[1], dtype=np.float32).copy())

    def _remember(self, connection: sqlite3.Connection, path: str, digest: bytes) -> None:
        row = (_name(path), *self._states[path], digest)
        connection.execute("INSERT OR REPLACE INTO videos VALUES (?, ?, ?, ?)", row)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection | None]:
        """A transaction that is committed at the end, or None where there is no use of the file.

        One connection a transaction: it is then closed whenever processes that decode are forked.
        """
        connection = None
        if self.usable:
            try:
                connection = self._opened()
            except (sqlite3.Error, OSError) as error:
                self._give_up(error)
        if connection is None:
            yield None
            return
        try:
            with closing(connection), connection:
                yield connection
        except sqlite3.Error as error:
            self._give_up(error)

    def _opened(self) -> sqlite3.Connection:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(2):
            connection = sqlite3.connect(self.file, timeout=_WAIT)
            try:
                if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                    connection.executescript(_TABLES)
                return connection
            except sqlite3.OperationalError:  # a full disk, another process: the file itself may be sound
                connection.close()
                raise
            except sqlite3.DatabaseError as error:
                connection.close()
                if attempt:
                    raise
                self._begin_anew(error)
        raise AssertionError("unreachable")

    def _give_up(self, error: Exception) -> None:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            self._begin_anew(error)
            return
        self.usable = False
        warn(f"features are not kept: {self.file}: {error}")

    def _begin_anew(self, error: Exception) -> None:
        warn(f"{self.file} is broken ({error}); its features are computed again")
        for suffix in ("", "-journal"):
            Path(f"{self.file}{suffix}").unlink(missing_ok=True)


def _name(path: str) -> str:
    # SQLite takes text; bytes of a name that are none are written out.
    return os.fsencode(real(path)).decode(errors="backslashreplace")


def _state_now(path: str) -> State | None:
    try:
        return tuple(state(path))
    except (OSError, VideoError):
        return None


def _digest(path: str) -> bytes | None:
    """Of a video's bytes; of one in a store, not to fetch it again, of its name and state. None where it cannot be
    read."""
    digest = hashlib.blake2b(digest_size=20)
    try:
        if is_address(path):
            digest.update(f"{path} {state(path)}".encode(errors="surrogateescape"))
            return digest.digest()
        with open_bytes(path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.digest()
    except (OSError, VideoError):
        return None
