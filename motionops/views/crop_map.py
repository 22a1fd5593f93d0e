"""Maps of a video cut out by a view's extent: what of its motion lies in each cell of the view's feature map."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from motionops.arrays import as_tensor, check_same_device
from motionops.scalars import grid_sizes


def crop_map(maps: Tensor, extents: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Average maps of a clip's frames, of motion for instance, over the cells of a view that was cut out of them.

    A cell's value is the mean of the map over the part of the picture that it shows, cells of the map being
    counted by the share that lies inside: exact for any pair of resolutions. A mirrored view has mirrored cells. Over
    time frames are averaged in `t` parts as equal as they can be.

    Args:
        maps: of the view's frames, `[B, T, H, W]`, floating, of any resolution; they fill the picture.
        extents: `[B, 3, 2]`, rows (t, y, x), columns (start, end), y and x as fractions of the picture, x backwards
            where mirrored; t is not looked at.
        grid: cells (t, h, w) of the feature map.

    Returns:
        `[B, t, h, w]` of the maps' type, without gradient.

    Raises:
        TypeError: no tensors or arrays, or not floating ones; a grid that is no three whole numbers.
        ValueError: shapes or devices that do not fit, a view without area.
    """
    maps = as_tensor("crop_map", "maps", maps)
    extents = as_tensor("crop_map", "extents", extents)
    if not maps.is_floating_point():
        raise TypeError(f"crop_map: maps must be of a floating type, got {maps.dtype}")
    if maps.ndim != 4 or 0 in maps.shape[1:]:
        raise ValueError(f"crop_map: maps must be [B, T, H, W] with T, H, W >= 1, got {list(maps.shape)}")
    if extents.shape != (len(maps), 3, 2):
        raise ValueError(f"crop_map: extents must be [B={len(maps)}, 3, 2], got {list(extents.shape)}")
    if not extents.is_floating_point():
        raise TypeError(f"crop_map: extents must be of a floating type, got {extents.dtype}")
    check_same_device("crop_map", "maps", maps, extents=extents)
    grid = grid_sizes("crop_map", "grid", grid)
    if min(grid) < 1:
        raise ValueError(f"crop_map: grid must be three positive numbers (t, h, w), got {grid}")
    if not extents.is_meta and bool((extents[:, 1:, 0] == extents[:, 1:, 1]).any()):
        raise ValueError("crop_map: extents must have an area, got start = end")
    maps = maps.detach()
    time, height, width = grid
    rows = _shares(extents[:, 1], height, maps.shape[2]).to(maps)  # [B, h, H]
    columns = _shares(extents[:, 2], width, maps.shape[3]).to(maps)  # [B, w, W]
    cells = rows[:, None] @ maps @ columns[:, None].mT  # [B, T, h, w]
    return functional.adaptive_avg_pool1d(cells.flatten(2).mT, time).mT.unflatten(2, (height, width))


def _shares(sides: Tensor, cells: int, sources: int) -> Tensor:
    """`[B, cells, sources]`: how much of a cell of the views each source cell fills, along one axis `[B, 2]`.

    Rows sum to 1; what of a view lies outside of the picture counts as the edge does.
    """
    steps = torch.linspace(0, 1, cells + 1, dtype=torch.float64, device=sides.device)
    sides = sides.double()
    edges = sides[:, :1] + (sides[:, 1:] - sides[:, :1]) * steps  # [B, cells + 1]
    low, high = torch.minimum(edges[:, :-1], edges[:, 1:]), torch.maximum(edges[:, :-1], edges[:, 1:])
    begin = torch.arange(sources, dtype=torch.float64, device=sides.device) / sources
    end = begin + 1 / sources
    begin[0], end[-1] = -torch.inf, torch.inf
    overlap = torch.minimum(high[..., None], end) - torch.maximum(low[..., None], begin)
    return overlap.clamp(min=0) / (high - low)[..., None]
