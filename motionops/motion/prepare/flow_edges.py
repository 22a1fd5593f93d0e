"""Flow edges of a whole set, computed once: ``motionops prepare flow-edges --data DIR --output DIR``.

What is written is read by :class:`motionops.motion.EdgesFolder`, see there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from motionops.errors import UserError
from motionops.library import has_cuda
from motionops.motion.edges_folder import Edges, EdgesWriter
from motionops.motion.pair_motion import RAFTPairs, check_raft_size, motion_of_pairs, tvl1_pairs
from motionops.motion.prepare.videos import Finished, PrepareConfig, Written, prepare_videos
from motionops.video.checking import Skipped
from motionops.video.list_lines import Video
from motionops.video.readers.squares import centre_squares
from motionops.video.reading import VideoError, read_pieces

FRAMES_AT_ONCE = 64
SHARDS = 16


@dataclass
class FlowEdgesConfig(PrepareConfig):
    """Compute the flow edges of a set of videos once, for trainers/modist.py --flow prepared. --output is a folder."""

    size: int = 224
    """Side of the edge maps in pixels: that of the training's clips."""
    flow: Literal["tvl1", "raft"] = "tvl1"
    """Optical flow that the edges are made of."""
    raft_weights: Path | None = None
    """Weights of RAFT; by default looked for in torch's hub cache."""
    flow_interval: int = 5
    """Flow is that from frame t to frame t - interval."""
    shards: int = SHARDS
    """Files that the set is spread over."""


@torch.no_grad()
def video_edges(path: str, size: int, interval: int, pair_flow: Callable) -> Edges:
    """The edge maps of a video's frames from `interval` on, and the mean edge of every frame.

    Raises:
        VideoError: it cannot be read, or has too few frames.
    """

    device = "cuda" if torch.cuda.is_available() and has_cuda() else "cpu"
    maps: list[bytes] = []
    means = [np.zeros(interval, dtype=np.float32)]
    count, before = 0, None
    for piece in read_pieces(path, FRAMES_AT_ONCE):
        count += len(piece)
        squares = centre_squares(piece[None].to(device), size)[0]
        squares = squares if before is None else torch.cat([before, squares])
        before = squares[-interval:]  # the partners of the next piece's first frames
        if len(squares) > interval:
            pairs = torch.stack([squares[:-interval], squares[interval:]], dim=1)
            edges = motion_of_pairs(pairs[None], "flow-edges", pair_flow)[0, 0].cpu()
            means.append(edges.mean(dim=(1, 2)).numpy())
            maps += Edges.compressed(edges)
    if count <= interval:
        raise VideoError(path, f"is too short: {count} frames, {interval + 1} are needed")
    return Edges(maps, np.concatenate(means))


def prepare_flow_edges(
    videos: Sequence[Video],
    output: Path,
    *,
    size: int,
    interval: int,
    flow: str = "tvl1",
    raft_weights: Path | None = None,
    shards: int = SHARDS,
    workers: int | None = None,
    strict: bool = False,
    progress: bool = True,
) -> list[Skipped]:
    """Write the edges of those videos that the folder does not hold yet or that have changed since, as they finish.

    Returns and raises as :func:`prepare_videos`; also UserError where the folder is of other settings or cannot be
    written, or RAFT's weights are not there.
    """

    pair_flow: Callable = tvl1_pairs
    if flow == "raft":
        check_raft_size(size)
        pair_flow = RAFTPairs(raft_weights)
    writer = EdgesWriter(output, {"size": size, "interval": interval, "shards": shards, "flow": flow})

    def write(path: str, finished: Finished) -> Written:
        edges = finished.result
        return Written(len(edges.means), writer.write(path, edges, finished.state))

    work = partial(video_edges, size=size, interval=interval, pair_flow=pair_flow)
    how = {"workers": workers, "strict": strict, "progress": progress}
    try:
        return prepare_videos(videos, writer.missing(videos), work, write, what="flow edges", **how)
    finally:
        writer.close()


def main(config: FlowEdgesConfig) -> int:
    """Write the edges of all videos that have none yet."""
    config.require_at_least(size=8, flow_interval=1, shards=1)
    if config.raft_weights is not None and config.flow != "raft":
        raise UserError(f"--raft-weights: are of --flow raft, not of {config.flow}")
    how = {name: getattr(config, name) for name in ("size", "flow", "raft_weights", "shards", "workers", "strict")}
    videos, output = config.videos(), config.of_the_part(config.output)
    prepare_flow_edges(videos, output, interval=config.flow_interval, **how)
    return 0
