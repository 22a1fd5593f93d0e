"""Flow edges of a whole set, computed once: ``python -m motionops.video.prepare flow-edges --data DIR --output DIR``.

A folder of shards, each an SQLite file; a video lies in the shard that its name falls to, its edge maps frame by frame
as compressed uint8 (0 to 255 for 0 to 10), with the mean edge of every frame beside them. A run that was cut goes on
where it was: a video is written whole or not at all.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from motionops.commandline import existing_folder, warn, writable_folder
from motionops.errors import UserError
from motionops.video.lists import Video, find_videos, read_list
from motionops.video.progress import with_progress
from motionops.video.reading import VideoError, read_video

PROGRAM = "python -m motionops.video.prepare flow-edges"
PAIRS_AT_ONCE = 64
FRAMES_OF_AN_HOUR = 25 * 3600
TABLES = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS videos (name TEXT PRIMARY KEY, number INTEGER, frames INTEGER, means BLOB);
CREATE TABLE IF NOT EXISTS edges (video INTEGER, frame INTEGER, map BLOB, PRIMARY KEY (video, frame)) WITHOUT ROWID;
"""


@dataclass
class FlowEdgesConfig:
    """Compute the flow edges of a set of videos once, for trainers/modist.py --flow prepared."""

    output: Path
    """Folder for the shards."""
    data: Path | None = None
    """Folder of videos."""
    list: Path | None = None
    """List of the videos; without it all videos of --data."""
    size: int = 224
    """Side of the edge maps in pixels: that of the training's clips."""
    flow: Literal["tvl1", "raft"] = "tvl1"
    """Optical flow that the edges are made of."""
    raft_weights: Path | None = None
    """Weights of RAFT; by default looked for in torch's hub cache."""
    flow_interval: int = 5
    """Flow is that from frame t to frame t - interval."""
    shards: int = 16
    """Files that the set is spread over."""
    workers: int = 2
    """Processes that decode and compute; 0: this one does."""


class FlowEdgesFolder:
    """Prepared flow edges, for reading.

    Args:
        folder: what `prepare flow-edges` wrote.
        size, interval: what the training expects.
        root: the training's --data, by which videos are named.

    Raises:
        UserError: no such folder, or one of other settings; the text names the command that makes it.
    """

    def __init__(
        self, folder: str | os.PathLike, size: int, interval: int, root: str | os.PathLike | None = None
    ) -> None:
        self.folder, self.size, self.interval, self.root = Path(folder), size, interval, root
        self.command = f"{PROGRAM} --output {folder} --size {size} --flow-interval {interval}"
        self.shards = shard_files(self.folder)
        if not self.shards:
            raise UserError(f"--prepared: {folder} holds no flow edges; {self.command} makes them")
        wanted = {"size": str(size), "interval": str(interval), "shards": str(len(self.shards))}
        for name, value in wanted.items():
            made = self.connection(0).execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
            if made is None or made[0] != value:
                what = "nothing" if made is None else f"{name} {made[0]}"
                raise UserError(f"--prepared: {folder} was made with {what}, not {name} {value}; {self.command}")

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "_opened"}

    def connection(self, shard: int) -> sqlite3.Connection:
        """A connection of this process: SQLite's must not be carried over a fork."""
        process, connections = getattr(self, "_opened", (None, {}))
        if process != os.getpid():
            connections = {}
            self._opened = (os.getpid(), connections)
        if shard not in connections:
            connections[shard] = sqlite3.connect(f"file:{self.shards[shard]}?mode=ro", uri=True)
        return connections[shard]

    def require(self, videos: Sequence[Video]) -> None:
        """UserError where one of the videos has no edges, or has other frames than when they were made."""
        for video in videos:
            frames = self._find(video.path)[1]
            if video.frames is not None and video.frames != frames:
                raise UserError(
                    f"--prepared: {video.path} has {video.frames} frames and had {frames} when its edges were made; "
                    f"delete {self.folder} and run {self.command}"
                )

    def means(self, path: str) -> torch.Tensor:
        """The mean edge, 0 to 10, of each frame: float32 `[F]`; those of the first `interval` frames are 0."""
        return torch.from_numpy(np.frombuffer(self._find(path)[2], dtype=np.float32).copy())

    def read(self, path: str, frames: torch.Tensor) -> torch.Tensor:
        """Edge maps of frames (numbers of at least `interval`, any shape `[...]`): uint8 `[..., S, S]`."""
        number = self._find(path)[0]
        connection = self.connection(shard_of(name_of(path, self.root), len(self.shards)))
        maps = {}
        for frame in sorted(set(frames.flatten().tolist())):
            row = connection.execute("SELECT map FROM edges WHERE video = ? AND frame = ?", (number, frame)).fetchone()
            if row is None:
                raise VideoError(path, f"has no prepared edges for frame {frame}")
            maps[frame] = np.frombuffer(zlib.decompress(row[0]), dtype=np.uint8).reshape(self.size, self.size)
        stacked = np.stack([maps[frame] for frame in frames.flatten().tolist()])
        return torch.from_numpy(stacked).view(*frames.shape, self.size, self.size)

    def _find(self, path: str) -> tuple[int, int, bytes]:
        name = name_of(path, self.root)
        row = (
            self.connection(shard_of(name, len(self.shards)))
            .execute("SELECT number, frames, means FROM videos WHERE name = ?", (name,))
            .fetchone()
        )
        if row is None:
            raise UserError(f"--prepared: {self.folder} has no edges of {path}; {self.command} adds them")
        return row


def name_of(path: str | os.PathLike, root: str | os.PathLike | None) -> str:
    """A video's name in the shards: its path below the data folder, or its whole path where it is not below it."""
    whole = os.path.realpath(path)
    if root is None:
        return whole
    below = os.path.relpath(whole, os.path.realpath(root))
    return whole if below.startswith(os.pardir) else below


def shard_of(name: str, shards: int) -> int:
    """The shard in which a video lies."""
    return zlib.crc32(name.encode(errors="surrogateescape")) % shards


def shard_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("edges-*.sqlite"))


def compute(
    path: str, size: int, flow: str, raft_weights: Path | None, interval: int
) -> tuple[list[bytes], np.ndarray] | str:
    """Compressed edge maps of the frames from `interval` on and the mean edge of every frame; or why there are none."""
    from motionops.learning.motion_input import EDGE_MAX, centre_squares, motion_of_pairs

    try:
        video = read_video(path)
    except VideoError as error:
        return error.reason
    if len(video) <= interval:
        return f"is too short: {len(video)} frames, {interval + 1} are needed"
    device = "cuda" if torch.cuda.is_available() and flow == "raft" else "cpu"
    squares = centre_squares(video[None].to(device), size)[0]
    maps, means = [], [np.zeros(interval, dtype=np.float32)]
    for begin in range(interval, len(squares), PAIRS_AT_ONCE):
        end = min(begin + PAIRS_AT_ONCE, len(squares))
        pairs = torch.stack([squares[begin - interval : end - interval], squares[begin:end]], dim=1)
        edges = motion_of_pairs(pairs[None], "flow-edges", pair_flow(flow, raft_weights))[0, 0].cpu()
        means.append(edges.mean(dim=(1, 2)).numpy())
        quantised = (edges * (255 / EDGE_MAX)).round().clamp(0, 255).to(torch.uint8).numpy()
        maps += [zlib.compress(one.tobytes(), 6) for one in quantised]
    return maps, np.concatenate(means).astype(np.float32)


_flows: dict = {}


def pair_flow(flow: str, raft_weights: Path | None):
    """The flow of pairs; RAFT is loaded once in a process."""
    from motionops.learning.motion_input import RAFTPairs, tvl1_pairs

    if flow == "tvl1":
        return tvl1_pairs
    if flow not in _flows:
        _flows[flow] = RAFTPairs(raft_weights)
    return _flows[flow]


def open_shards(config: FlowEdgesConfig) -> list[sqlite3.Connection]:
    """The shards for writing, made where they are not there yet; UserError where they are of other settings."""
    settings = {"size": config.size, "interval": config.flow_interval, "shards": config.shards, "flow": config.flow}
    there = shard_files(config.output)
    if there and len(there) != config.shards:
        raise UserError(f"--output: {config.output} has {len(there)} shards, not --shards {config.shards}")
    shards = []
    for number in range(config.shards):
        connection = sqlite3.connect(config.output / f"edges-{number:05d}.sqlite")
        try:
            connection.executescript(TABLES)
            for name, value in settings.items():
                connection.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (name, str(value)))
                made = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()[0]
                if made != str(value):
                    raise UserError(f"--output: {config.output} was made with {name} {made}, not {value}")
            connection.commit()
        except sqlite3.DatabaseError as error:
            raise UserError(f"--output: {config.output}: {error}") from error
        shards.append(connection)
    return shards


def write(connection: sqlite3.Connection, name: str, maps: list[bytes], means: np.ndarray, interval: int) -> int:
    """Put a video into its shard, whole or not at all; the bytes of its maps."""
    with connection:
        number = connection.execute("SELECT COALESCE(MAX(number), -1) + 1 FROM videos").fetchone()[0]
        rows = ((number, interval + place, one) for place, one in enumerate(maps))
        connection.executemany("INSERT INTO edges VALUES (?, ?, ?)", rows)
        connection.execute("INSERT INTO videos VALUES (?, ?, ?, ?)", (name, number, len(means), means.tobytes()))
    return sum(map(len, maps))


def results(config: FlowEdgesConfig, videos: list[Video]) -> Iterator[tuple[Video, tuple | str]]:
    """Each video with what `compute` says of it, in order, from --workers processes."""
    work = partial(
        compute,
        size=config.size,
        flow=config.flow,
        raft_weights=config.raft_weights,
        interval=config.flow_interval,
    )
    if not config.workers:
        yield from ((video, work(video.path)) for video in videos)
        return
    context = multiprocessing.get_context("spawn")  # a fork would carry OpenMP's and CUDA's state
    with ProcessPoolExecutor(
        config.workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        # A few ahead of what is written, so that a large set does not fill the memory with finished videos.
        waiting: list = []
        source = iter(videos)
        try:
            for video in islice(source, 2 * config.workers):
                waiting.append((video, pool.submit(work, video.path)))
            while waiting:
                video, future = waiting.pop(0)
                yield video, future.result()
                for following in islice(source, 1):
                    waiting.append((following, pool.submit(work, following.path)))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def main(config: FlowEdgesConfig) -> int:
    """Write the edges of all videos that have none yet."""
    for name, least in {"size": 8, "flow_interval": 1, "shards": 1, "workers": 0}.items():
        if getattr(config, name) < least:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{flag}: must be at least {least}, got {getattr(config, name)}")
    if config.data is None and config.list is None:
        raise UserError("name the videos with --data or --list")
    if config.data is not None:
        existing_folder(config.data)
    if config.flow == "raft":
        from motionops.learning.motion_input import check_raft_size, raft_file

        check_raft_size(config.size)
        raft_file(config.raft_weights)
    videos = find_videos(config.data) if config.list is None else read_list(config.list, root=config.data)
    config.output = writable_folder(config.output)
    shards = open_shards(config)

    names = {video.path: name_of(video.path, config.data) for video in videos}
    done = {name for shard in shards for (name,) in shard.execute("SELECT name FROM videos")}
    wanted = [video for video in videos if names[video.path] not in done]
    if len(wanted) < len(videos):
        print(f"{len(videos) - len(wanted)} of {len(videos)} videos are done already", file=sys.stderr)
    frames = written = skipped = 0
    begin = time.perf_counter()
    for video, result in with_progress(results(config, wanted), len(wanted), "flow edges", show=True):
        if isinstance(result, str):
            skipped += 1
            warn(f"skipped {video.path}: {result}")
            continue
        maps, means = result
        name = names[video.path]
        written += write(shards[shard_of(name, len(shards))], name, maps, means, config.flow_interval)
        frames += len(maps)
    seconds = time.perf_counter() - begin
    for shard in shards:
        shard.close()
    if frames:
        hour = written / frames * FRAMES_OF_AN_HOUR
        print(
            f"{frames} maps of {config.size} x {config.size} in {seconds:.1f} s ({frames / seconds:.1f} a second), "
            f"{written} bytes: {hour / 2**20:.1f} MiB an hour of video (25 frames a second)"
        )
    if skipped:
        print(f"{skipped} videos were skipped")
    return 0
