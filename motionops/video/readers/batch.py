"""What is known and drawn of a video before it is decoded, and what reaches the training of several."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate

from motionops.arrays import to_device
from motionops.video.checking import Skipped
from motionops.video.counting.key_frames import NOT_KNOWN, KeyFrames
from motionops.video.readers.cut_frames import CHANNELS, CutFrames, CutVideo, boxes_of, together
from motionops.video.readers.shared_memory import room_for_a_batch, shared
from motionops.views.appearance import Appearance
from motionops.views.augment_clips import augment_clips
from motionops.views.frames import Frames, of_each


class KnownVideo(NamedTuple):
    """A video before it is decoded: its place in the list, its file, its frames, the size of its picture, and where
    decoding may begin."""

    index: int
    path: str
    frames: int
    height: int
    width: int
    keys: KeyFrames = NOT_KNOWN


@dataclass
class Plan:
    """All that is drawn of a video, before anything of it is decoded.

    Attributes:
        frames: int64 ``[V, T]``, the numbers of the frames of V views.
        extents: ``[..., 3, 2]``, where clips are cut out of them, if that is drawn.
        appearance: how the clips look, if that is drawn.
        own: what else a method draws: a tensor, a number, or a named tuple or dataclass of them;
            :class:`motionops.video.readers.squares.Squares` where further frames are sent as squares.
        cuts: of each of the V views which of the extents, by number, are cut out of its frames, if nothing else of them
            is looked at: then readers send the part of the pictures that these show, and a batch's frames are a
            :class:`motionops.video.readers.cut_frames.CutFrames`. None: the pictures are sent whole.
        shrunk_to: pixels of a clip's side down to which readers make pictures smaller before they cut them; None: the
            pixels are those of the file.
    """

    frames: Tensor
    extents: Tensor | None = None
    appearance: Appearance | None = None
    own: Any = None
    cuts: Sequence[Sequence[int]] | None = None
    shrunk_to: int | None = None

    def sent_bytes(self, picture: tuple[int, int]) -> int:
        """Bytes of the pixels of the V views, of a video whose pictures have `(H, W)` pixels."""
        if self.cuts is None:
            return self.frames.numel() * picture[0] * picture[1] * CHANNELS
        boxes = boxes_of(self.cuts, self.extents, picture, self.shrunk_to)
        return sum(box.height * box.width for box in boxes) * self.frames.shape[1] * CHANNELS


@dataclass
class Batch:
    """B videos as the readers hand them over. An item of a :class:`VideoDataset` is one of them, without the axis B.

    Attributes:
        frames: uint8 ``[B, V, T, H, W, 3]``; where videos differ in size a list of B; where a plan says which clips are
            cut out of them, something that is used as such a list is, and holds these clips' pixels alone.
        starts: int64 ``[B, V]``, the first frame of each view.
        index: int64 ``[B]``, the videos' places in the list.
        label: int64 ``[B]``, their classes' numbers, -1 where the list has none.
        picture: int64 ``[B, 2]``, height and width of their pictures.
        extents, appearance: as their :class:`Plan` has them, ``[B, ...]``.
        own: what else the plan has, or what was read of the file beside its frames; tensors ``[B, ...]``.
        failed: videos that could not be read; another one took the place of each.
        decoding: seconds of a core that decoding took (by one thread; what it waited for the storage is not in it),
            0 where a video was in memory; None where nobody asked.
        drawn: (epoch, index, attempt) of an item; None of a batch.
    """

    frames: Frames | CutFrames
    starts: Tensor
    index: Tensor | int
    label: Tensor | int
    picture: Tensor
    extents: Tensor | None = None
    appearance: Appearance | None = None
    own: Any = None
    failed: list[Skipped] = field(default_factory=list)
    decoding: float | None = None
    drawn: tuple[int, int, int] | None = None

    def __len__(self) -> int:
        """B."""
        return len(self.frames)

    def view(self, *place) -> Frames:
        """``frames[:, *place]``, whether videos are of one size or of several: ``view(0)`` is each one's first."""
        return of_each(self.frames, *place)

    def clip(self, view: int, size: int, *, stride: int = 1, **how: Any) -> Tensor:
        """A view of each video as the plan says: cut out at ``extents[:, view]``, looking as ``appearance[:, view]``.

        Args:
            view: its place.
            size: side of the clip in pixels.
            stride: from one of the view's frames to the next that the clip has.
            how: ``mean``, ``std``, ``difference`` of :func:`motionops.augment_clips`.

        Returns:
            ``[B, 3, T, size, size]``, on the device of the frames.
        """
        look = None if self.appearance is None else self.appearance[:, view]
        return augment_clips(self.view(view, slice(None, None, stride)), self.extents[:, view], size, look, **how)

    def to(self, device: torch.device | str | int) -> Batch:
        """The same on a device. On the way to a GPU the host does not wait for what that is at."""
        device = torch.device(device)
        return _mapped(self, lambda tensor: to_device(tensor, device) if tensor.is_cpu else tensor.to(device))

    def pin_memory(self) -> Batch:
        """The same in pinned memory: what a DataLoader asks for."""
        return _mapped(self, Tensor.pin_memory)


def collate_videos(items: Sequence[Batch]) -> Batch:
    """Make a batch of items: tensors of one shape are stacked ``[B, ...]``, of several shapes kept in a list.

    Whole numbers become int64 ``[B]``, named tuples and dataclasses of tensors are stacked by field, ``failed`` is one
    list, ``decoding`` one sum. In a reader process the tensors are in shared memory.

    Raises:
        UserError: shared memory has no room for the batch.
    """
    together = {
        "failed": [skipped for item in items for skipped in item.failed],
        "decoding": None if items[0].decoding is None else sum(item.decoding for item in items),
        "drawn": None,
    }
    with room_for_a_batch():
        names = [part.name for part in dataclasses.fields(Batch) if part.name not in together]
        return Batch(**{name: _stacked([getattr(item, name) for item in items]) for name in names}, **together)


def _stacked(values: list) -> Any:
    first = values[0]
    if isinstance(first, CutVideo):
        return together(values)
    if isinstance(first, Tensor):
        if all(value.shape == first.shape for value in values):
            return shared(default_collate(values))  # which stacks in shared memory at once
        return [shared(value) for value in values]
    if isinstance(first, (bool, int, float)):
        return shared(torch.tensor(values))
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(_stacked(list(part)) for part in zip(*values, strict=True)))
    if dataclasses.is_dataclass(first):
        names = [part.name for part in dataclasses.fields(first)]
        return type(first)(**{name: _stacked([getattr(value, name) for value in values]) for name in names})
    return None if first is None else values


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with ``function`` of every tensor in its lists, named tuples and dataclasses."""
    if isinstance(value, Tensor):
        return function(value)
    if dataclasses.is_dataclass(value):
        parts = {part.name: _mapped(getattr(value, part.name), function) for part in dataclasses.fields(value)}
        return dataclasses.replace(value, **parts)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(part, function) for part in value))
    if isinstance(value, list):
        return [_mapped(part, function) for part in value]
    return value
