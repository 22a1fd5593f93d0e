"""Pictures as they are meant to be seen: how a file says that they are stored on their side, and their turning.

Phones film as their sensor lies and write down how the picture is to be turned and mirrored (a display matrix). FFmpeg,
OpenCV and torchcodec hand out upright pictures, and so do all readers here, motion vectors included.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

ALIGNED = math.sin(math.radians(1))  # a matrix that is further from the axes turns by no quarter: it is not followed

Picture = TypeVar("Picture", np.ndarray, torch.Tensor)


class Turn(NamedTuple):
    """What makes a stored picture upright: rows and columns swapped, then rows, then columns in reverse order."""

    swapped: bool = False
    rows: bool = False
    columns: bool = False

    @classmethod
    def of(cls, frame: Any) -> Turn:
        """That of a decoded frame's display matrix (libavutil/display.h); of a frame without one, none."""
        from av.sidedata.sidedata import SideDataContainer

        # Not `frame.side_data`, which would keep the frame, and be kept by it, until the collector of cycles comes.
        matrix = SideDataContainer(frame).get("DISPLAYMATRIX")
        if matrix is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5] / 65536
        # The stored pixel (x, y) is shown at (a x + c y, b x + d y).
        swapped = bool(abs(b) + abs(c) > abs(a) + abs(d))
        x, y, small, large = (c, b, (a, d), (b, c)) if swapped else (a, d, (b, c), (a, d))
        if max(map(abs, small)) > ALIGNED * min(map(abs, large)):
            return cls()
        return cls(swapped, bool(y < 0), bool(x < 0))

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the turn, or before it: it is the same swap."""
        return (width, height) if self.swapped else (height, width)

    def pictures(self, stored: Picture, rows: int = 0) -> Picture:
        """Pictures whose axes `rows` and `rows + 1` are height and width, upright."""
        if isinstance(stored, np.ndarray):
            upright = np.swapaxes(stored, rows, rows + 1) if self.swapped else stored
            return np.flip(upright, self._reversed(rows))
        upright = stored.transpose(rows, rows + 1) if self.swapped else stored
        return upright.flip(self._reversed(rows)).contiguous()

    def _reversed(self, rows: int) -> tuple[int, ...]:
        return tuple(axis for axis, turned in ((rows, self.rows), (rows + 1, self.columns)) if turned)

    def blocks(self, rows: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Motion-vector blocks (:data:`motionops.codec.records.COLUMNS`) of a picture, `height` x `width` when upright.

        Their places, sides and vectors turn with it.
        """
        if self == AS_STORED:
            return rows
        frame, source, w, h, x, y, u, v, scale = rows.unbind(1)
        if self.swapped:
            w, h, x, y, u, v = h, w, y, x, v, u
        if self.rows:
            y, v = height - y, -v
        if self.columns:
            x, u = width - x, -u
        return torch.stack([frame, source, w, h, x, y, u, v, scale], dim=1)


AS_STORED = Turn()
