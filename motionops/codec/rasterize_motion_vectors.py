"""The motion vectors of a compressed video as maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from motionops.arrays import Array, as_tensor
from motionops.codec.records import COLUMNS, PAST, pack_records
from motionops.fake_kernels import register_shapes
from motionops.library import NAMESPACE, ops
from motionops.scalars import check_scalars


def rasterize_motion_vectors(vectors: Tensor | Array, frames: int, height: int, width: int, *, cell: int = 8) -> Tensor:
    r"""Average the motion vectors of blocks over the cells of a grid, frame by frame.

    A vector's displacement in pixels a frame is ``motion / (motion_scale * source)``: FFmpeg's ``motion`` leads from
    the block to where it was taken from, ``source`` is -1 for the frame before and +1 for the frame after (a reference
    that is n frames away may be written -n or +n). With P pixels of a cell inside the picture, of which block i covers
    a_i, the value is ``sum(a_i d_i) / max(P, sum(a_i))``: the mean over all pixels of the cell, where those without a
    vector (intra blocks) count as still; where blocks lie on one another, their mean. So a cell without vectors is 0,
    and averaging the maps of small cells gives those of large ones. (Context-Motion Decoupling, section 3.3, takes
    such maps as supervision.)

    Args:
        vectors: int32 or int64 ``[N, 9]``, columns (frame, source, w, h, dst_x, dst_y, motion_x, motion_y,
            motion_scale) named as in FFmpeg's AVMotionVector: ``dst`` is the block's centre in pixels, so that it
            covers the pixels from ``dst - size // 2`` on, ``size`` of them. In any order; rows of frames outside
            0 .. frames - 1 do not count. Without the second column, ``[N, 8]``, every source is -1. Or PyAV's
            structured arrays, see :func:`motionops.codec.pack_records`: a list with one a frame, or one array (or
            mapping of names to arrays) with a field ``frame``, which may be missing where ``frames`` is 1.
        frames: F.
        height, width: of the picture, in pixels. Parts of blocks outside do not count.
        cell: side of a cell in pixels. Cells at the right and bottom may be smaller.

    Returns:
        float32 ``[F, 2, ceil(height / cell), ceil(width / cell)]`` on the device of ``vectors``: channel 0 is u (pixels
        a frame to the right), 1 is v (down). No gradients. The same from run to run on any device.

    Raises:
        TypeError: ``vectors`` is of another type.
        ValueError: a wrong shape or size; on the CPU also a row with source 0 or w, h or motion_scale below 1, which
            does not count on CUDA (to see it there would wait for the device).
    """
    sizes = {"frames": frames, "height": height, "width": width, "cell": cell}
    check_scalars("rasterize_motion_vectors", whole=sizes)
    if isinstance(vectors, (list, tuple)):
        vectors = pack_records(vectors, function="rasterize_motion_vectors")
    elif isinstance(vectors, Mapping) or (isinstance(vectors, np.ndarray) and vectors.dtype.names is not None):
        vectors = pack_records(vectors, 0 if frames == 1 else None, function="rasterize_motion_vectors")
    vectors = as_tensor("rasterize_motion_vectors", "vectors", vectors)
    if vectors.dtype == torch.int64:
        vectors = vectors.clamp(-(2**31), 2**31 - 1).int()  # a number past these is no frame and no pixel
    if vectors.ndim == 2 and vectors.shape[1] == len(COLUMNS) - 1:
        source = vectors.new_full((len(vectors), 1), PAST)
        vectors = torch.cat([vectors[:, :1], source, vectors[:, 1:]], dim=1)
    return ops().rasterize_motion_vectors.default(vectors, *map(int, sizes.values()))


def rasterize_motion_vectors_reference(
    vectors: Tensor, frames: int, height: int, width: int, *, cell: int = 8
) -> Tensor:
    """:func:`rasterize_motion_vectors` of a tensor in plain PyTorch, in float64 and rounded once: its definition."""
    frame, source, w, h, x, y, motion_x, motion_y, scale = vectors.long().unbind(1)
    counts = (frame >= 0) & (frame < frames)
    rows, columns = -(-height // cell), -(-width // cell)
    covered_y, inside_y = _overlap(y - h // 2, h, rows, cell, height)
    covered_x, inside_x = _overlap(x - w // 2, w, columns, cell, width)
    area = (covered_y[:, :, None] * covered_x[:, None, :])[counts]  # [N, rows, columns], pixels
    displacement = torch.stack([motion_x, motion_y], dim=1)[counts].double() / (scale * source)[counts][:, None]
    total = torch.zeros(frames, 2, rows, columns, dtype=torch.float64, device=vectors.device)
    total.index_add_(0, frame[counts], area[:, None] * displacement[:, :, None, None])
    covered = torch.zeros(frames, rows, columns, dtype=torch.int64, device=vectors.device)
    covered.index_add_(0, frame[counts], area)
    weight = torch.maximum(covered, inside_y[:, None] * inside_x[None, :])
    return (total / weight[:, None]).float()


def _overlap(begin: Tensor, size: Tensor, cells: int, cell: int, end: int) -> tuple[Tensor, Tensor]:
    """Pixels of every cell along one axis that a block covers, ``[N, cells]``, and that there are, ``[cells]``."""
    low = torch.arange(cells, device=begin.device) * cell
    high = (low + cell).clamp(max=end)
    common = torch.minimum((begin + size)[:, None], high) - torch.maximum(begin[:, None], low)
    return common.clamp(min=0), high - low


def register(namespace: str) -> None:
    """Register the shapes (fake kernel) of the operator in ``namespace``."""

    def shapes(vectors: Tensor, frames: int, height: int, width: int, cell: int) -> Tensor:
        size = (frames, 2, (height + cell - 1) // cell, (width + cell - 1) // cell)
        return vectors.new_empty(size, dtype=torch.float32)

    register_shapes(namespace, "rasterize_motion_vectors", shapes)


register(NAMESPACE)
