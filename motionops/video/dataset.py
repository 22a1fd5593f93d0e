"""The videos of a training run, as a data set for ``torch.utils.data.DataLoader``."""

from __future__ import annotations

import copy
import dataclasses
import gc
import os
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from motionops.errors import UserError
from motionops.nested import tensors_in
from motionops.seeds import mix
from motionops.video.checking import Skipped, once_each
from motionops.video.counting.key_frames import KeyFrames
from motionops.video.list_lines import Video, class_names
from motionops.video.readers.batch import Batch, KnownVideo, Plan
from motionops.video.readers.cut_frames import CutVideo
from motionops.video.readers.frame_reader import FrameReader
from motionops.video.reading import VideoError, measure, read_frames

CACHE_BYTES = 512 << 20
CACHE_SHARE = 16  # a video that would take more than this part of the cache is not kept
MOST_REPLACEMENTS = 16
DRAWS = 32  # of a video's clips, over which the mean of their boxes is taken
SMALLEST = 2  # pixels of a side: of one nothing can be cut out
SMALL = 16  # pixels of a side up to which a view that a method draws may be smaller than a pixel

Draw = Callable[[KnownVideo, torch.Generator], Plan]


class VideoDataset(Dataset):
    """Clips of videos; an item is a function of (seed, epoch, index), not of worker, rank or what was read before.

    Args:
        videos: of a list; those that :func:`check_videos` returned know their frames and the size of their pictures
            already.
        plan: ``(video, generator) -> Plan``, all that is drawn of a :class:`KnownVideo`, from this generator alone;
            :class:`RandomClips` is one. Nothing of the video is decoded yet.
        seed: of everything random.
        cache_bytes: memory for decoded videos, of all workers together. It fills with the first videos that are
            asked for, none of more than a sixteenth of a worker's part; the others are read from disk each time.
        classes: label names in the order of their numbers; by default :func:`class_names` of ``videos``.
        reader: what is read of a file; by default its frames.

    ``dataset[epoch, index]`` (``dataset[index]`` is epoch 0) is a :class:`Batch` of one video, without its axis B; a
    DataLoader with a :class:`VideoBatchSampler` as its ``batch_sampler`` asks for it so, and gets other clips in every
    epoch. A video that cannot be read is replaced by another one, which depends on (seed, epoch, index) alone, and is
    named in ``failed``.

    Attributes:
        least_frames: a shorter video is drawn from as if it had so many: its last frame is held behind its end.
        time_decoding: set before the reading begins: ``decoding`` of the items is measured.
        cuts: whether frames are cut where a plan says what of them is looked at.
        shrunk_to: then also made smaller, :attr:`Plan.shrunk_to`.

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
        plan: Draw,
        seed: int = 0,
        cache_bytes: int = CACHE_BYTES,
        classes: Sequence[str] | None = None,
        reader: FrameReader | None = None,
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
        longest = max(len(os.fsencode(video.path)) for video in videos)
        self.paths = np.fromiter((os.fsencode(video.path) for video in videos), f"S{longest}", len(videos))
        self.labels = np.array([-1 if video.label is None else numbers[video.label] for video in videos])
        self.frame_counts = np.array([-1 if video.frames is None else video.frames for video in videos])
        self.pictures = np.array([video.picture or (-1, -1) for video in videos])
        self.keys = "".join(video.keys for video in videos).encode()  # texts one after the other, and where each ends
        self.keys_end = np.cumsum([len(video.keys) for video in videos])
        self.plan, self.seed, self.cache_bytes = plan, seed, cache_bytes
        self.reader = FrameReader() if reader is None else reader
        self.time_decoding = False
        self.least_frames = 0
        self.cuts, self.shrunk_to = True, None
        # Which videos were asked for without an epoch, and last whether that was warned of. In shared memory: a worker
        # lives for one pass, and knows of those before it from here.
        self._asked = torch.zeros(len(videos) + 1, dtype=torch.bool).share_memory_()
        self._forget()

    def _forget(self) -> None:
        self._cache: dict[int, Any] = {}
        self._cached_bytes = 0
        self._not_cached: set[int] = set()  # which have more frames than were counted

    def with_reader(self, reader: FrameReader) -> VideoDataset:
        """The same data set, whose files another reader reads; without a cache."""
        other = self.without_cache()
        other.reader = reader
        return other

    def without_cache(self) -> VideoDataset:
        """The same data set, which keeps no video in memory."""
        other = copy.copy(self)
        other.cache_bytes = 0
        other._forget()
        return other

    def of_whole_pictures(self) -> VideoDataset:
        """The same data set, of whose pictures nothing is cut off."""
        other = copy.copy(self)
        other.cuts = False
        return other

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: int | tuple[int, int]) -> Batch:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"VideoDataset: index must be in [0, {len(self)}), got {index}")
        if not isinstance(key, tuple):
            self._warn_of_repetition(index)
        return self.item(epoch, index)

    def item(self, epoch: int, index: int, first_attempt: int = 0, failed: Sequence[Skipped] = ()) -> Batch:
        """``dataset[epoch, index]``; with a later first attempt, what takes its place where those before failed so."""
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
            item.failed, item.drawn = failed, (epoch, index, attempt)
            return item
        named = "; ".join(map(str, once_each(failed)))
        raise UserError(f"{MOST_REPLACEMENTS} videos in a row cannot be read: {named}")

    def known(self, index: int) -> KnownVideo:
        """What is known of a video before it is decoded; what ``videos`` did not know is found out once."""
        path = self.path(index)
        if self.frame_counts[index] < 0:
            self.frame_counts[index], *self.pictures[index] = measure(path)[:3]
        if self.pictures[index, 0] < 0:
            self.pictures[index] = read_frames(path, []).shape[1:3]  # the first frame tells it
        keys = self.keys[self.keys_end[index - 1] if index else 0 : self.keys_end[index]].decode()
        return KnownVideo(
            index, path, int(self.frame_counts[index]), *self.pictures[index].tolist(), keys=KeyFrames(keys)
        )

    def item_bytes(self) -> int:
        """What the tensors of an item take; boxes of clips are as large as they are on average."""
        item = self.without_cache().item(0, 0)
        size = sum(tensor.nbytes for tensor in tensors_in(item))
        if not isinstance(item.frames, CutVideo):
            return size
        video, drawn = self.known(item.index), 0
        video = video._replace(frames=max(video.frames, self.least_frames))
        for draw in range(DRAWS):
            plan = self._planned(video, torch.Generator().manual_seed(mix(self.seed, draw)))
            drawn += plan.sent_bytes((video.height, video.width))
        return size - sum(part.nbytes for part in item.frames.parts) + drawn // DRAWS

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

    def _item(self, index: int, generator: torch.Generator) -> Batch:
        kept, start = index in self._cache, time.thread_time()
        video = self.known(index)
        seconds = time.thread_time() - start
        plan = self._planned(video._replace(frames=max(video.frames, self.least_frames)), generator)
        start = time.thread_time()
        whole = self._whole_video(video)
        if whole is not None and len(whole) < video.frames:
            reason = f"has {len(whole)} frames now, it had {video.frames} when they were counted"
            raise VideoError(video.path, reason)
        frames, own = self.reader.read(video, plan, whole)
        seconds += time.thread_time() - start
        picture = tuple(frames.shape[-3:-1])
        if picture != (video.height, video.width):
            sizes = [f"{width}x{height}" for height, width in (picture, (video.height, video.width))]
            raise VideoError(video.path, f"has pictures of {sizes[0]} pixels now, it had {sizes[1]}")
        return Batch(
            frames,
            starts=plan.frames[:, 0].clone(),
            index=index,
            label=int(self.labels[index]),
            picture=torch.tensor(picture),
            extents=plan.extents,
            appearance=plan.appearance,
            own=own,
            decoding=(0.0 if kept else seconds) if self.time_decoding else None,
        )

    def _planned(self, video: KnownVideo, generator: torch.Generator) -> Plan:
        """What is drawn of a video; VideoError where nothing can be cut out of so small a picture."""
        reason = f"is too small: {video.width}x{video.height} pixels"
        smaller = min(video.height, video.width)
        if smaller < SMALLEST:
            raise VideoError(video.path, reason)
        try:
            plan = self.plan(video, generator)
        except ValueError as error:
            if smaller > SMALL:
                raise
            raise VideoError(video.path, f"{reason} ({error})") from error
        return dataclasses.replace(plan, cuts=plan.cuts if self.cuts else None, shrunk_to=self.shrunk_to)

    def _whole_video(self, video: KnownVideo) -> Any | None:
        """The decoded video where it is kept or there is room to keep it.

        Nothing leaves: every epoch asks for every video once, and then the one not used for longest is the next.
        """
        index = video.index
        if index in self._cache or index in self._not_cached:
            return self._cache.get(index)
        worker = get_worker_info()
        budget = self.cache_bytes // (worker.num_workers if worker else 1)
        most = min(budget // CACHE_SHARE, budget - self._cached_bytes)
        if video.frames * video.height * video.width * 3 > most:
            return None  # known without opening the file
        whole = self.reader.whole(video, most)
        if whole is None:
            self._not_cached.add(index)
            return None
        self._cache[index] = whole
        self._cached_bytes += whole.nbytes
        return whole


def start_worker(worker: int) -> None:
    """``worker_init_fn``: one thread a worker, and Ctrl-C is for the main process, which then ends the workers."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Garbage of the process it is a fork of stays: what waits there for threads of its own (a decoder's picture
    # converter) would be freed here, and wait for threads that are not here, for ever.
    gc.freeze()
