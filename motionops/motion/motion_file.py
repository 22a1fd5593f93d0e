"""Motion maps of whole videos on disk: one SQLite file, coarse maps in a byte a cell."""

from __future__ import annotations

import json
import os
import zlib

import numpy as np
import torch

from motionops.motion.prepared_file import Kind, PreparedFile, PreparedWriter, video_state

MOTION = Kind(
    "motion", "python -m motionops prepare motion", ("shape TEXT", "scale REAL", "maps BLOB", "check_sum INTEGER")
)
LEVELS = 255


def check_sum(shape: str, scale: float, maps: bytes) -> int:
    return zlib.crc32(f"{shape} {scale!r}".encode(), zlib.crc32(maps))


class MotionFile(PreparedFile):
    """Prepared motion maps of a set of videos, for reading, from any number of processes.

    Args:
        path: what `prepare motion` wrote.

    Raises:
        UserError: no such file, or another one; the text names the command that makes it.
    """

    kind = MOTION

    def read(self, video: str | os.PathLike) -> torch.Tensor:
        """The motion maps of a video: float32 `[F, h, w]`, non-negative, a map a frame.

        A video is found by its whole path or, where the data have moved, by its file's and its folder's name.

        Raises:
            UserError: the file does not hold the video, or is damaged; the text names the command that mends it.
        """
        shape, scale, maps, expected = self.find(video, "shape, scale, maps, check_sum")
        with self.undamaged(video):
            if check_sum(shape, scale, maps) != expected:
                raise ValueError("another check sum")
            levels = np.frombuffer(zlib.decompress(maps), dtype=np.uint8).reshape(json.loads(shape))
        # Square roots were stored: small motion keeps its differences.
        return torch.from_numpy((levels.astype(np.float32) / LEVELS) ** 2 * np.float32(scale))

    def means(self, video: str | os.PathLike) -> torch.Tensor:
        """The mean motion of each frame, T-motion: float32 `[F]`, what :func:`motionops.motion_starts` takes."""
        return self.read(video).mean(dim=(1, 2))


class MotionWriter(PreparedWriter):
    """The same file for writing; made where it is not there yet. See :class:`PreparedWriter`."""

    def __init__(self, path: str | os.PathLike, settings: dict) -> None:
        super().__init__(path, MOTION, settings)

    def write(self, video: str | os.PathLike, motion: torch.Tensor, state: tuple[int, int] | None = None) -> int:
        """Add the maps `[F, h, w]` of a video, or put them in the place of its earlier ones; the bytes they take.

        `state` is the :func:`video_state` from before it was read; by default that of now.
        """
        scale = float(motion.max()) if motion.numel() else 0.0
        levels = (motion / scale).sqrt().mul(LEVELS).round() if scale > 0 else torch.zeros_like(motion)
        maps = zlib.compress(levels.to(torch.uint8).numpy().tobytes(), 6)
        shape = json.dumps(list(motion.shape))
        values = (shape, scale, maps, check_sum(shape, scale, maps))
        self.add(video, state or video_state(video), len(motion), values)
        return len(maps)
