"""The videos of a training run, as a data set for ``torch.utils.data.DataLoader``."""

from __future__ import annotations

import copy
import dataclasses
import os
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate, get_worker_info

from motionops.errors import UserError
from motionops.seeds import mix
from motionops.video.checking import Skipped
from motionops.video.list_lines import Video, class_names
from motionops.video.readers.shared_memory import room_for_a_batch, shared
from motionops.video.reading import VideoError, count_frames, read_frames, read_video_if_small

CACHE_BYTES = 512 << 20
CACHE_SHARE = 16  # a video that would take more than this part of the cache is not kept
MOST_REPLACEMENTS = 16
SMALLEST = 2  # pixels of a side: of one nothing can be cut out
SMALL = 16  # pixels of a side up to which a view that a method draws may be smaller than a pixel

Sample = Callable[[int, torch.Generator], torch.Tensor]
Draw = Callable[[torch.Tensor, tuple[int, int], torch.Generator], dict[str, Any]]
ReadClip = Callable[[str, torch.Tensor, int], Any]


class VideoDataset(Dataset):
    """Clips of videos; an item is a function of (seed, epoch, index), not of worker, rank or what was read before.

    Args:
        videos: of a list; those that :func:`check_videos` returned know their frame counts already.
        sample: ``(frame_count, generator) -> int64 [V, T]``, the frames of V views. A method whose choice depends on
            the video itself overrides :meth:`choose_frames` and :meth:`describe`, and needs none; one that reads
            more than frames overrides :meth:`read_whole` and :meth:`read`.
        seed: of everything random.
        draw: ``(frame_numbers [V, T], (H, W), generator) -> dict``, what else an item holds (extents, appearance).
        cache_bytes: memory for decoded videos, of all workers together. It fills with the first videos that are
            asked for, none of more than a sixteenth of a worker's part; the others are read from disk each time.
        classes: label names in the order of their numbers; by default :func:`class_names` of ``videos``.

    ``dataset[epoch, index]`` (``dataset[index]`` is epoch 0) is a dict; a DataLoader with a :class:`VideoBatchSampler`
    as its ``batch_sampler`` asks for it so, and gets other clips in every epoch:

    * ``frames``: uint8 ``[V, T, H, W, 3]``
    * ``starts``: int64 ``[V]``, the first frame of each view
    * ``index``: the video's place in ``videos``
    * ``label``: its number in ``classes``, -1 where the list has none
    * ``failed``: list of :class:`Skipped`. A video that cannot be read is replaced by another one, which depends on
      (seed, epoch, index) alone, and is named here
    * whatever ``draw`` returned
    * where the attribute ``least_frames`` was set, a shorter video is chosen from as if it had so many: its last frame
      is held behind its end
    * ``decoding``, where the attribute ``time_decoding`` was set before the reading began: seconds of a core that the
      video took to be decoded (by one thread; what that waited for the storage is not in it), 0 where it was in memory

    Raises:
        ValueError: no video.
        UserError: a label that ``classes`` lacks; many videos in a row cannot be read.

    Warns:
        UserWarning: ``dataset[index]`` was asked for before, by whichever worker: a loader's second pass that names no
            epoch gets the clips of the first.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        sample: Sample | None = None,
        seed: int = 0,
        draw: Draw | None = None,
        cache_bytes: int = CACHE_BYTES,
        classes: Sequence[str] | None = None,
    ) -> None:
        if not videos:
            raise ValueError("VideoDataset: videos must hold at least one video, got none")
        self.classes = list(class_names(videos) if classes is None else classes)
        numbers = {name: number for number, name in enumerate(self.classes)}
        unknown = [video for video in videos if video.label is not None and video.label not in numbers]
        if unknown:
            raise UserError(f"{unknown[0].path}: label {unknown[0].label!r} is not among the {len(numbers)} classes")
        # Arrays: objects by the hundred thousand would be copied into every worker, page by page, as their reference
        # counts are touched.
        self.paths = np.array([os.fsencode(video.path) for video in videos], dtype=np.bytes_)
        self.labels = np.array([-1 if video.label is None else numbers[video.label] for video in videos])
        self.frame_counts = np.array([-1 if video.frames is None else video.frames for video in videos])
        self.sample, self.draw, self.seed, self.cache_bytes = sample, draw, seed, cache_bytes
        self.read_clip: ReadClip | None = None
        self.time_decoding = False
        self.least_frames = 0
        # Which videos were asked for without an epoch, and last whether that was warned of. In shared memory: a worker
        # lives for one pass, and knows of those before it from here.
        self._asked = torch.zeros(len(videos) + 1, dtype=torch.bool).share_memory_()
        self._forget()

    def _forget(self) -> None:
        self._cache: dict[int, Any] = {}
        self._cached_bytes = 0
        self._not_cached: set[int] = set()  # too large, or there was no room

    def with_reader(self, read_clip: ReadClip) -> VideoDataset:
        """The same data set, whose frames ``read_clip(path, numbers [V, T], frame_count)`` reads; without a cache.

        What it returns is an item's ``frames``: a tensor, or something else with a ``shape`` ``[V, T, H, W, 3]`` that
        whoever makes batches turns into one.
        """
        other = self.without_cache()
        other.read_clip = read_clip
        return other

    def without_cache(self) -> VideoDataset:
        """The same data set, which keeps no video in memory."""
        other = copy.copy(self)
        other.cache_bytes = 0
        other._forget()
        return other

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"VideoDataset: index must be in [0, {len(self)}), got {index}")
        if not isinstance(key, tuple):
            self._warn_of_repetition(index)
        return self.item(epoch, index)

    def item(self, epoch: int, index: int, first_attempt: int = 0, failed: Sequence[Skipped] = ()) -> dict[str, Any]:
        """``dataset[epoch, index]``; with a later first attempt, what takes its place where those before failed so.

        Where :meth:`with_reader` was called, an item also holds ``drawn``: (epoch, index, attempt).
        """
        failed = list(failed)
        for attempt in range(first_attempt, MOST_REPLACEMENTS):
            generator = torch.Generator().manual_seed(mix(self.seed, epoch, index, attempt))
            place = index
            if attempt:
                place = int(torch.randint(len(self), (), generator=generator))
            try:
                item = self._item(place, generator)
            except VideoError as error:
                failed.append(Skipped(error.path, error.reason))
                continue
            drawn = {} if self.read_clip is None else {"drawn": (epoch, index, attempt)}
            return {**item, "failed": failed, **drawn}
        named = "; ".join(f"{path}: {reason}" for path, reason in dict(failed).items())
        raise UserError(f"{MOST_REPLACEMENTS} videos in a row cannot be read: {named}")

    def choose_frames(self, index: int, frame_count: int, generator: torch.Generator) -> torch.Tensor:
        """The frames ``[V, T]`` of a video's views: what ``sample`` says. For a method that must know the video."""
        return self.sample(frame_count, generator)

    def describe(
        self, index: int, numbers: torch.Tensor, picture: tuple[int, int], generator: torch.Generator
    ) -> dict[str, Any]:
        """What an item holds beside frames and label: what ``draw`` says. For a method that must know the video."""
        return {} if self.draw is None else self.draw(numbers, picture, generator)

    def read_whole(self, index: int, most_bytes: int) -> Any | None:
        """A decoded video to be kept in memory, None where it would take more than so many bytes.

        It is what :meth:`read` gets again; its length is the number of frames, ``nbytes`` what it takes.
        """
        return read_video_if_small(self.path(index), int(self.frame_counts[index]), most_bytes)

    def read(self, index: int, numbers: torch.Tensor, whole: Any | None) -> dict[str, Any]:
        """What an item holds of the file: ``frames [V, T, H, W, 3]``. For a method that reads more than frames.

        Args:
            index: the video's place.
            numbers: ``[V, T]``, of the frames.
            whole: what :meth:`read_whole` gave, where the video is kept in memory.
        """
        if self.read_clip is not None:
            return {"frames": self.read_clip(self.path(index), numbers, int(self.frame_counts[index]))}
        if whole is None:
            return {"frames": read_frames(self.path(index), numbers)}
        # NumPy copies on this thread; torch would wake all of its threads for a few hundred kilobytes.
        return {"frames": torch.from_numpy(whole.numpy()[numbers.numpy()])}

    def frame_count(self, index: int) -> int:
        """The number of a video's frames; those that ``videos`` did not know are counted once."""
        if self.frame_counts[index] < 0:
            self.frame_counts[index] = count_frames(self.path(index))
        return int(self.frame_counts[index])

    def path(self, index: int) -> str:
        """The path of a video."""
        return os.fsdecode(bytes(self.paths[index]))

    def _warn_of_repetition(self, index: int) -> None:
        """Say it once: a video is asked for again without an epoch."""
        if self._asked[index] and not self._asked[-1]:
            self._asked[-1] = True
            warnings.warn(
                f"VideoDataset: video {index} is asked for a second time without an epoch, which gives the same clips "
                "again; a DataLoader with VideoBatchSampler as its batch_sampler asks for others in every epoch",
                stacklevel=3,
            )
        self._asked[index] = True

    def _item(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        kept, start = index in self._cache, time.thread_time()
        whole = self._whole_video(index)
        if whole is None:
            self.frame_count(index)
        seconds = time.thread_time() - start
        if whole is not None and len(whole) < self.frame_counts[index]:
            reason = f"has {len(whole)} frames now, it had {self.frame_counts[index]} when they were counted"
            raise VideoError(self.path(index), reason)
        frame_count = int(self.frame_counts[index]) if whole is None else len(whole)
        numbers = self.choose_frames(index, max(frame_count, self.least_frames), generator)
        start = time.thread_time()
        content = self.read(index, numbers.clamp(max=frame_count - 1), whole)
        seconds += time.thread_time() - start
        item = {
            **content,
            "starts": numbers[:, 0].clone(),
            "index": index,
            "label": int(self.labels[index]),
        }
        item.update(self._described(index, numbers, tuple(item["frames"].shape[-3:-1]), generator))
        if self.time_decoding:
            item["decoding"] = 0.0 if kept else seconds
        return item

    def _described(
        self, index: int, numbers: torch.Tensor, picture: tuple[int, int], generator: torch.Generator
    ) -> dict[str, Any]:
        """`describe`; VideoError where nothing can be cut out of so small a picture."""
        reason = f"is too small: {picture[1]}x{picture[0]} pixels"
        if min(picture) < SMALLEST:
            raise VideoError(self.path(index), reason)
        try:
            return self.describe(index, numbers, picture, generator)
        except ValueError as error:
            if min(picture) > SMALL:
                raise
            raise VideoError(self.path(index), f"{reason} ({error})") from error

    def _whole_video(self, index: int) -> Any | None:
        """The decoded video where it is kept or there is room to keep it.

        Nothing leaves: every epoch asks for every video once, and then the one not used for longest is the next.
        """
        if index in self._cache or index in self._not_cached:
            return self._cache.get(index)
        worker = get_worker_info()
        budget = self.cache_bytes // (worker.num_workers if worker else 1)
        most = min(budget // CACHE_SHARE, budget - self._cached_bytes)
        video = self.read_whole(index, most) if most > 0 else None
        if video is None:
            self._not_cached.add(index)
            return None
        self._cache[index] = video
        self._cached_bytes += video.nbytes
        return video


def collate_videos(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a batch of items: tensors of one shape are stacked ``[B, ...]``, of several shapes kept in a list.

    Whole numbers become int64 ``[B]``, named tuples and dataclasses of tensors are stacked by field, ``failed`` is one
    list, ``decoding`` one sum. In a reader process the tensors are in shared memory.

    Raises:
        UserError: shared memory has no room for the batch.
    """
    with room_for_a_batch():
        return {key: _stack(key, [item[key] for item in items]) for key in items[0]}


def start_worker(worker: int) -> None:
    """``worker_init_fn``: one thread a worker, and Ctrl-C is for the main process, which then ends the workers."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stack(key: str, values: list) -> Any:
    first = values[0]
    if key == "failed":
        return [skipped for value in values for skipped in value]
    if key == "decoding":
        return sum(values)
    if isinstance(first, torch.Tensor):
        if all(value.shape == first.shape for value in values):
            return shared(default_collate(values))  # which stacks in shared memory at once
        return [shared(value) for value in values]
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(_stack(key, list(field)) for field in zip(*values, strict=True)))
    if dataclasses.is_dataclass(first):
        names = [field.name for field in dataclasses.fields(first)]
        return type(first)(**{name: _stack(key, [getattr(value, name) for value in values]) for name in names})
    if isinstance(first, (bool, int, float)):
        return shared(torch.tensor(values))
    return values
