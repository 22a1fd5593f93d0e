"""Frames of which only the boxes are kept that clips are cut out of, and how they are seen in their whole pictures.

A reader sends of a picture no more than what the clips show. Where a clip is cut is computed in the whole picture all
the same, so that nothing is rounded otherwise: a box is seen as the picture that it was cut out of, by the strides of
its own rows, whose first pixel lies as far before the box's as the box lies behind the picture's. What is outside of
the box there is other memory of the batch; `augment_clips` does not look at it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from motionops.video.readers.shared_memory import shared

CHANNELS = 3
ROUNDING = 2.0**-20  # of a side, more than float32 loses where it computes a pixel's place


class Box(NamedTuple):
    """A box `[top, top + height) x [left, left + width)` of a picture of `picture` (H, W) pixels."""

    top: int
    left: int
    height: int
    width: int
    picture: tuple[int, int]

    @property
    def before(self) -> int:
        """Bytes from the picture's first pixel to the box's, in the box's rows."""
        return (self.top * self.width + self.left) * CHANNELS

    @property
    def behind(self) -> int:
        """Bytes from the box's first pixel to the end of the picture, in the box's rows."""
        height, width = self.picture
        return ((height - 1 - self.top) * self.width + width - self.left) * CHANNELS


def box_around(extents: Tensor, picture: tuple[int, int]) -> Box:
    """The box of a picture `(H, W)` that holds every pixel which `augment_clips` reads at `extents [n, 3, 2]`."""
    sides, ranges = [], extents.tolist()  # of few clips: numbers cost less here than tensors
    for row, length in zip((1, 2), picture, strict=True):
        ends = [end for clip in ranges for end in clip[row]]
        low, high = min(ends), max(ends)
        slack = length * ROUNDING * max(1.0, abs(low), abs(high))
        # The pixels on both sides of each place; places outside of the picture are on its edge.
        first = math.floor(min(max(low * length - 0.5 - slack, 0), length - 1))
        last = math.floor(min(max(high * length - 0.5 + slack, 0), length - 1)) + 1
        sides.append((first, min(last, length - 1) + 1 - first))
    (top, height), (left, width) = sides
    return Box(top, left, height, width, picture)


@dataclass
class CutVideo:
    """The views of a video, each cut to a box: what an item has in place of frames `[V, T, H, W, 3]`.

    Attributes:
        parts: of each view uint8 `[T, height, width, 3]`.
        boxes: of each view.
        picture: (H, W) of the video.
    """

    parts: list[Tensor]
    boxes: list[Box]
    picture: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the frames before they were cut, `[V, T, H, W, 3]`."""
        return (len(self.parts), len(self.parts[0]), *self.picture, CHANNELS)


def boxes_of(
    cuts: Sequence[Sequence[int]], extents: Tensor, picture: tuple[int, int], shrunk_to: int | None = None
) -> list[Box]:
    """The box of each view, in its picture or in a smaller one; arguments as of :func:`cut_out`."""
    shown = [extents.reshape(-1, 3, 2)[list(cut)] for cut in cuts]
    sizes = [picture if shrunk_to is None else smallest(where, picture, shrunk_to) for where in shown]
    return [box_around(where, size) for where, size in zip(shown, sizes, strict=True)]


def cut_out(
    pictures: Tensor, places: Tensor, cuts: Sequence[Sequence[int]], extents: Tensor, shrunk_to: int | None = None
) -> CutVideo:
    """Cut the frames of each view to the box of its clips.

    Args:
        pictures: uint8 `[F, H, W, 3]`.
        places: int64 `[V, T]`, which of them are the frames of each view.
        cuts: of each view the places of its clips in `extents`.
        extents: `[..., 3, 2]`, n of them.
        shrunk_to: pixels of a clip's side down to which pictures are made smaller before; None leaves all as they are.
    """
    picture, parts = tuple(pictures.shape[1:3]), []
    boxes = boxes_of(cuts, extents, picture, shrunk_to)
    for numbers, box in zip(places.tolist(), boxes, strict=True):
        if box.picture == picture:
            parts.append(_part(pictures, numbers, box))
        else:
            parts.append(_part(shrunk(pictures[numbers], box.picture), range(len(numbers)), box))
    return CutVideo(parts, boxes, picture)


def _part(pictures: Tensor, numbers: Sequence[int], box: Box) -> Tensor:
    """`[T, height, width, 3]`. NumPy copies on this thread; torch would wake all of its own for a few kilobytes."""
    source = pictures.numpy()[:, box.top : box.top + box.height, box.left : box.left + box.width]
    part = np.empty((len(numbers), box.height, box.width, CHANNELS), np.uint8)
    for row, number in enumerate(numbers):
        part[row] = source[number]
    return torch.from_numpy(part)


def smallest(extents: Tensor, picture: tuple[int, int], size: int) -> tuple[int, int]:
    """The smallest picture of which each of the clips at `extents` still has `size` pixels a side, where it had."""
    shares = extents[:, 1:].double().diff(dim=-1).abs().amin(dim=(0, 2)).tolist()
    ends = zip(picture, shares, strict=True)
    return tuple(length if share * length <= size else math.ceil(size / share) for length, share in ends)


def shrunk(pictures: Tensor, sides: tuple[int, int]) -> Tensor:
    """Pictures uint8 `[F, H, W, 3]` as `[F, *sides, 3]`: bilinear, smoothed as much as they shrink, in uint8."""
    if tuple(pictures.shape[1:3]) == sides:
        return pictures
    planes = functional.interpolate(pictures.permute(0, 3, 1, 2), sides, mode="bilinear", antialias=True)
    return planes.permute(0, 2, 3, 1).contiguous()


class Place(NamedTuple):
    """Where in a batch's memory the box of a view begins, its frames, and the box."""

    first: int
    frames: int
    box: Box


@dataclass
class CutFrames:
    """Views of B videos, of which the readers sent no more than their clips show.

    It is used as a list of B videos' frames `[V, T, H, W, 3]` is: `frames[b][v, ::2]` are pictures `[T / 2, H, W, 3]`
    of the size that the videos have. Pixels outside of the boxes are anything.

    Attributes:
        pixels: uint8, the boxes one after the other, with so much memory around them that every pixel of every picture
            lies in it.
        videos: of each the places of its views.
    """

    pixels: Tensor
    videos: list[list[Place]]

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, number: int) -> CutViews:
        return CutViews(self.pixels, self.videos[number])

    def __iter__(self) -> Iterator[CutViews]:
        return (self[number] for number in range(len(self)))


class CutViews(Sequence):
    """The views of one of :class:`CutFrames`: `views[v, times]` is a tensor, `views[1:]` a list of views."""

    def __init__(self, pixels: Tensor, places: list[Place]) -> None:
        self.pixels, self.places = pixels, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        view, *rest = place if isinstance(place, tuple) else (place,)
        if isinstance(view, slice):
            return [self[(number, *rest)] for number in range(len(self))[view]]
        return in_pictures(self.pixels, *self.places[view])[tuple(rest)]


def in_pictures(pixels: Tensor, first: int, frames: int, box: Box) -> Tensor:
    """Boxes that lie in `pixels` from byte `first` on, as they are seen in their pictures: `[frames, H, W, 3]`."""
    strides = (box.height * box.width * CHANNELS, box.width * CHANNELS, CHANNELS, 1)
    return pixels.as_strided((frames, *box.picture, CHANNELS), strides, pixels.storage_offset() + first - box.before)


def chosen_in_pictures(boxes: Tensor, numbers: Tensor, box: Box) -> Tensor:
    """Some of the `boxes [F, height, width, 3]`, copied, as they are seen in their pictures: `[T, H, W, 3]`."""
    sizes, frames = (len(numbers), *boxes.shape[1:]), len(numbers)
    inside = math.prod(sizes)
    pixels = boxes.new_empty(box.before + max(inside, inside - boxes[0].numel() + box.behind))
    torch.index_select(boxes, 0, numbers, out=pixels[box.before :][:inside].view(sizes))
    return in_pictures(pixels, box.before, frames, box)


def together(videos: Sequence[CutVideo]) -> CutFrames:
    """A batch of videos; in a reader in shared memory."""
    parts = [(part, box) for video in videos for part, box in zip(video.parts, video.boxes, strict=True)]
    ends = np.cumsum([0, *(part.numel() for part, _ in parts)]).tolist()
    # Room before the first boxes and behind the last ones, for the rest of their pictures.
    before = max(0, *(box.before - begin for (_, box), begin in zip(parts, ends, strict=False)))
    last = [begin + part[:-1].numel() + box.behind for (part, box), begin in zip(parts, ends, strict=False)]
    pixels = shared(torch.zeros(before + max(ends[-1], *last), dtype=torch.uint8))
    places = []
    for (part, box), begin in zip(parts, ends, strict=False):
        pixels[before + begin :][: part.numel()] = part.flatten()
        places.append(Place(before + begin, len(part), box))
    of_videos = iter(places)
    return CutFrames(pixels, [[next(of_videos) for _ in video.parts] for video in videos])
