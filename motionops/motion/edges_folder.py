"""Prepared flow edges on disk: a folder of SQLite files, edge maps frame by frame as compressed uint8.

A video lies in the shard that its folder's and its own name fall to, so that data that have moved are found there too.
A map is stored as 0 to 255 for edges of 0 to 10, with the mean edge of every frame beside the maps: a training can
choose clips without reading them.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from motionops.errors import UserError
from motionops.motion.prepared_file import Followed, Kind, PreparedFile, PreparedWriter, as_text, in_lots, tail
from motionops.video.list_lines import Video
from motionops.video.reading import VideoError
from motionops.video.sources import real

EDGES = Kind(
    "flow edges",
    "python -m motionops prepare flow-edges",
    ("means BLOB",),
    "edges",
    ("frame INTEGER", "map BLOB"),
)
EDGE_MAX = 10.0  # MoDist clamps edges to [0, 10] (Section 4.1)


class Edges(NamedTuple):
    """The edges of a video: compressed maps of its last frames, and the mean edge, 0 to 10, of every frame."""

    maps: list[bytes]
    means: np.ndarray

    @staticmethod
    def compressed(edges: torch.Tensor) -> list[bytes]:
        """Maps float32 `[N, S, S]`, 0 to 10, as they are stored."""
        quantised = (edges * (255 / EDGE_MAX)).round().clamp(0, 255).to(torch.uint8).numpy()
        return [zlib.compress(one.tobytes(), 6) for one in quantised]


class EdgesShard(PreparedFile):
    """One file of the folder."""

    kind = EDGES

    def command(self) -> str:
        return f"{EDGES.program} --data DIR --output {self.file.parent}"


class EdgesFolder:
    """Prepared flow edges of a set of videos, for reading, from any number of processes.

    Args:
        folder: what `prepare flow-edges` wrote.
        size, interval: side of the maps in pixels and frames between the two of a pair that are expected; None: what
            the folder has, which the attributes of these names say.

    Raises:
        UserError: no such folder, or one of other settings; the text names the command that makes it.
    """

    def __init__(self, folder: str | os.PathLike, size: int | None = None, interval: int | None = None) -> None:
        self.folder = Path(folder)
        command = f"{EDGES.program} --data DIR --output {folder}"
        command += "" if size is None else f" --size {size}"
        command += "" if interval is None else f" --flow-interval {interval}"
        self.shards = [EdgesShard(file) for file in shard_files(self.folder)]
        if not self.shards:
            raise UserError(f"{folder} holds no flow edges; {command} makes them")
        expected = {"size": size, "interval": interval, "shards": len(self.shards)}
        for name, value in expected.items():
            made = self.shards[0].settings.get(name)
            if value is not None and made != value:
                raise UserError(f"{folder} was made with {name} {made}, not {name} {value}; {command} makes another")
        self.size, self.interval = (self.shards[0].settings[name] for name in ("size", "interval"))

    def require(self, videos: Iterable[Video]) -> None:
        """UserError where one of the videos has no edges, or is another one than when they were made."""
        followed = Followed()
        for some in in_lots(videos):
            with ExitStack() as held:
                for shard in self.shards:
                    held.enter_context(shard.at_one_time())
                for video in some:
                    path, state = followed(video.path)
                    self.shards[place_of(path, len(self.shards))].require_one(video, path, state)

    def means(self, video: str | os.PathLike) -> torch.Tensor:
        """The mean edge, 0 to 10, of each frame: float32 `[F]`; those of the first `interval` frames are 0."""
        shard = self._shard(video)
        (means,) = shard.find(video, "means")
        with shard.undamaged(video):
            return torch.from_numpy(np.frombuffer(means, dtype=np.float32).copy())

    def read(self, video: str | os.PathLike, frames: torch.Tensor) -> torch.Tensor:
        """Edge maps of frames (numbers of at least `interval`, any shape `[...]`): uint8 `[..., S, S]`.

        255 is an edge of 10, the largest: they are kept and read as a network's pictures are.
        """
        shard = self._shard(video)
        (number,) = shard.find(video, "number")
        query = "SELECT map FROM edges WHERE video = ? AND frame = ?"
        maps = {}
        for frame in sorted(set(frames.flatten().tolist())):
            with shard.undamaged(video):
                row = shard.connection().execute(query, (number, frame)).fetchone()
                if row is None:
                    raise VideoError(os.fspath(video), f"has no prepared edges for frame {frame}")
                maps[frame] = np.frombuffer(zlib.decompress(row[0]), dtype=np.uint8).reshape(self.size, self.size)
        stacked = np.stack([maps[frame] for frame in frames.flatten().tolist()])
        return torch.from_numpy(stacked).view(*frames.shape, self.size, self.size)

    def _shard(self, video: str | os.PathLike) -> EdgesShard:
        return self.shards[shard_of(video, len(self.shards))]


class EdgesWriter:
    """The folder for writing; made where it is not there yet.

    Raises:
        UserError: a folder of other settings; one that cannot be written.
    """

    def __init__(self, folder: Path, settings: dict) -> None:
        count = settings["shards"]
        there = shard_files(folder)
        if there and len(there) != count:
            raise UserError(f"--output: {folder} has {len(there)} shards, not --shards {count}")
        files = [folder / f"edges-{number:05d}.sqlite" for number in range(count)]
        self.shards = [PreparedWriter(file, EDGES, settings) for file in files]

    def missing(self, videos: Sequence[Video]) -> list[Video]:
        """Those of the videos that the folder does not hold, or that have changed since."""
        followed = Followed()
        done = [shard.states() for shard in self.shards]

        def up_to_date(video: Video) -> bool:
            path, state = followed(video.path)
            return state is not None and done[place_of(path, len(done))].get(as_text(path)) == state

        return [video for video in videos if not up_to_date(video)]

    def write(self, video: str, edges: Edges, state: tuple[int, int]) -> int:
        """Add a video's edges, or put them in the place of its earlier ones; the bytes of its maps."""
        frames = len(edges.means)
        first = frames - len(edges.maps)

        def maps(connection: sqlite3.Connection, number: int) -> None:
            connection.execute("DELETE FROM edges WHERE video = ?", (number,))
            rows = ((number, frame, one) for frame, one in enumerate(edges.maps, start=first))
            connection.executemany("INSERT INTO edges VALUES (?, ?, ?)", rows)

        means = edges.means.astype(np.float32).tobytes()
        self.shards[shard_of(video, len(self.shards))].add(video, state, frames, (means,), maps)
        return sum(map(len, edges.maps))

    def close(self) -> None:
        for shard in self.shards:
            shard.close()


def shard_of(video: str | os.PathLike, shards: int) -> int:
    """The shard in which a video lies."""
    return place_of(real(video), shards)


def place_of(path: str, shards: int) -> int:
    """The same, by where the video really lies."""
    return zlib.crc32(tail(path).encode()) % shards


def shard_files(folder: Path) -> list[Path]:
    """The shards that are there."""
    return sorted(folder.glob("edges-*.sqlite"))
