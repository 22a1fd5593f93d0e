"""How the cells of two views of one video overlap."""

from collections.abc import Sequence

import torch
from torch import Tensor

from motionops.arrays import Array, as_tensor
from motionops.fake_kernels import register_shapes
from motionops.library import NAMESPACE, ops
from motionops.scalars import grid_sizes


def soft_correspondence(
    query_extent: Tensor | Array, key_extent: Tensor | Array, query_grid: Sequence[int], key_grid: Sequence[int]
) -> Tensor:
    r"""The share of every query cell that lies in every key cell.

    ``S(i, j)`` = volume of (cell i ∩ cell j) / volume of cell i, a product of three one-dimensional overlap ratios
    (Controllable Augmentations, the soft targets of its region contrast). A mirrored view (start > end) runs backwards.

    Args:
        query_extent: ``[B, 3, 2]`` float32 or float64, rows (t, y, x), columns (start, end): t in source frames, y and
            x in fractions of the frame.
        key_extent: ``[B, 3, 2]``, in the same units.
        query_grid: (t, h, w), the cells of the query view along each axis.
        key_grid: (t, h, w) of the key view.

    Returns:
        ``[B, Nq, Nk]`` in the type of ``query_extent``, cells flattened in (t, y, x) order. Rows sum to 1 where the
        query view lies inside the key view, to less where it does not. No gradient flows to extents.

    Raises:
        TypeError: a type that is not supported, a grid that is no sequence of whole numbers.
        ValueError: a shape or grid that does not fit; on the CPU also a view without volume, which gives NaN on CUDA
            (to see it there would wait for the device).
    """
    query_extent = as_tensor("soft_correspondence", "query_extent", query_extent)
    key_extent = as_tensor("soft_correspondence", "key_extent", key_extent)
    grids = (
        grid_sizes("soft_correspondence", "query_grid", query_grid),
        grid_sizes("soft_correspondence", "key_grid", key_grid),
    )
    return ops().soft_correspondence.default(query_extent.detach(), key_extent.detach(), *grids)


def soft_correspondence_reference(
    query_extent: Tensor, key_extent: Tensor, query_grid: Sequence[int], key_grid: Sequence[int]
) -> Tensor:
    """:func:`soft_correspondence` in plain PyTorch, in float64 and rounded once: its definition."""
    t, y, x = (
        _axis_overlap(query_extent[..., axis, :].double(), key_extent[..., axis, :].double(), *cells)
        for axis, cells in enumerate(zip(query_grid, key_grid, strict=True))
    )
    product = t[..., :, None, None, :, None, None] * y[..., None, :, None, None, :, None]
    product = product * x[..., None, None, :, None, None, :]  # [..., t, h, w, t', h', w']
    return product.flatten(-3).flatten(-4, -2).to(query_extent.dtype)


def _axis_overlap(query: Tensor, key: Tensor, query_cells: int, key_cells: int) -> Tensor:
    """``[..., n, m]`` overlap ratios along one axis of extents ``[..., 2]``."""

    def edges(extent: Tensor, cells: int) -> tuple[Tensor, Tensor]:
        i = torch.arange(cells + 1, device=extent.device, dtype=extent.dtype)
        edge = (extent[..., :1] * (cells - i) + extent[..., 1:] * i) / cells
        return torch.minimum(edge[..., :-1], edge[..., 1:]), torch.maximum(edge[..., :-1], edge[..., 1:])

    query_low, query_high = edges(query, query_cells)
    key_low, key_high = edges(key, key_cells)
    low = torch.maximum(query_low[..., :, None], key_low[..., None, :])
    high = torch.minimum(query_high[..., :, None], key_high[..., None, :])
    return (high - low).clamp(min=0) / (query_high - query_low)[..., :, None]


def register(namespace: str) -> None:
    """Register the shapes (fake kernel) of the operator in ``namespace``."""

    def shapes(query_extent, key_extent, query_grid, key_grid):
        query_cells = query_grid[0] * query_grid[1] * query_grid[2]
        key_cells = key_grid[0] * key_grid[1] * key_grid[2]
        return query_extent.new_empty((query_extent.shape[0], query_cells, key_cells))

    register_shapes(namespace, "soft_correspondence", shapes)


register(NAMESPACE)
