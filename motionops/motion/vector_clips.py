"""Clips of motion vectors as a network takes them: cut out where a view is, in the view's pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from motionops.arrays import to_device


def vector_clips(
    motion: Tensor | Sequence[Tensor],
    extents: Tensor,
    size: int,
    pictures: Tensor,
    *,
    cell: int = 8,
) -> Tensor:
    """Cut each clip of motion-vector maps out by its view's extent, as `motionops.augment_clips` does with frames.

    The maps' cells are those of the whole picture. A map is read between the centres of its cells (bilinear, edges
    repeated) at the centres of the view's pixels. Lengths become those of the view: u and v are divided by the crop's
    width and height in pixels and multiplied by `size`, so what moved by a pixel of the view is 1; where the view is
    mirrored, u changes its sign.

    Args:
        motion: `[B, T, 2, h, w]`, or a sequence of B tensors `[T, 2, h_i, w_i]`: pixels of the picture a frame, as
            `motionops.rasterize_motion_vectors` makes them.
        extents: `[B, 3, 2]`, rows (t, y, x), columns (start, end), fractions of the picture; the t row is not looked
            at.
        size: S, of the view.
        pictures: int64 `[B, 2]`, height and width of the pictures in pixels.
        cell: side of the maps' cells in pixels.

    Returns:
        float32 `[B, 2, T, S, S]`. No gradient.

    Raises:
        ValueError: shapes that do not fit.
    """
    batch = len(motion)
    if extents.shape != (batch, 3, 2):
        raise ValueError(f"vector_clips: extents must be [B={batch}, 3, 2], got {list(extents.shape)}")
    if pictures.shape != (batch, 2):
        raise ValueError(f"vector_clips: pictures must be [B={batch}, 2], got {list(pictures.shape)}")
    for maps in motion:
        if maps.ndim != 4 or maps.shape[1] != 2:
            raise ValueError(f"vector_clips: motion must be [B, T, 2, h, w], got clips of {list(maps.shape)}")
    pictures = pictures.to(extents.device)
    if isinstance(motion, Tensor):
        return _cut(motion, extents, size, pictures, cell)
    rows = zip(motion, extents, pictures, strict=True)
    clips = [_cut(maps[None], extent[None], size, picture[None], cell) for maps, extent, picture in rows]
    return torch.cat(clips) if clips else extents.new_zeros((0, 2, 0, size, size))


def _cut(motion: Tensor, extents: Tensor, size: int, pictures: Tensor, cell: int) -> Tensor:
    """Clips of one picture's grid, `[B, T, 2, h, w] -> [B, 2, T, S, S]`."""
    extents = extents.double()
    begin, sides = extents[:, 1:, 0], extents[:, 1:, 1] - extents[:, 1:, 0]  # (y, x), fractions of the picture
    pixels = (torch.arange(size, device=extents.device, dtype=torch.float64) + 0.5) / size
    places = begin[..., None] + sides[..., None] * pixels  # [B, 2, S]
    # The last cells may reach beyond the picture.
    covered = to_device(cell * torch.tensor(motion.shape[-2:]), extents.device)
    y, x = (2 * places * (pictures / covered)[..., None] - 1).float().unbind(1)
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1)
    flat = motion.flatten(1, 2).float()
    cut = functional.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
    scale = (size / (sides * pictures)).float().flip(1)  # (u, v); below 0 where mirrored
    return cut.unflatten(1, (-1, 2)).transpose(1, 2) * scale[:, :, None, None, None]


def fill_key_frames(motion: Tensor, intra: Tensor) -> Tensor:
    """Give I-frames the vectors of the frame before in their clip (the first: those of the frame after).

    An I-frame is coded without vectors: its map is zero, whatever moves. What stands still stays zero, whatever it is.

    Args:
        motion: `[..., T, 2, h, w]`.
        intra: bool `[..., T]`, which frames are I-frames.
    """
    time = motion.shape[-4]
    numbers = torch.arange(time, device=motion.device)
    before = torch.where(intra, -1, numbers).cummax(dim=-1).values
    after = torch.where(intra, time, numbers).flip(-1).cummin(dim=-1).values.flip(-1)
    source = torch.where(before >= 0, before, after.clamp(max=time - 1))
    return motion.gather(-4, source[..., None, None, None].expand(motion.shape))


def in_steps(clips: Tensor, steps: int) -> Tensor:
    """Clips `[..., T, S, S]` with another number of time steps, each that of the frame at its place; 0: as they are."""
    time = clips.shape[-3]
    if steps in (0, time):
        return clips
    return clips.index_select(-3, torch.arange(steps, device=clips.device) * time // steps)
