"""Batches whose frames DALI decodes in the training process, while the step before them is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch
from torch.utils.data import DataLoader

from motionops.commandline import warn
from motionops.errors import UserError
from motionops.nested import tensors_in
from motionops.video import Batch, FrameReader, Skipped, Video, VideoDataset, VideoError, collate_videos, read_frames
from motionops.video.dali import CPU_CODECS, DALIDecoder, EncodedClip, EncodedReader, ReadByPyAV
from motionops.video.readers.squares import Squares, squares_of
from motionops.video.reading import read_coding

AHEAD = 2  # batches


class DALIBatches:
    """Batches as :func:`collate_videos` makes them, of a loader's lists of items; in the loader's order.

    Two batches are decoded ahead, in a thread. A clip that DALI cannot decode is read with PyAV; a file that PyAV
    cannot read either is replaced and named, as :class:`VideoDataset` does.

    Args:
        loader: gives lists of items of ``dataset``, not collated.
        dataset: with :class:`motionops.video.dali.EncodedReader` as its reader.
        decoder: for as many clips as a batch has.
    """

    def __init__(self, loader: DataLoader, dataset: VideoDataset, decoder: DALIDecoder) -> None:
        self.loader, self.dataset, self.decoder = loader, dataset, decoder
        self._said: set[str] = set()
        gpu = decoder.device.type == "cuda"
        # On the training's own stream, decoding would wait for the step that is under way.
        self._stream = torch.cuda.Stream(decoder.device) if gpu else None

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(1, thread_name_prefix="dali") as thread:
            try:
                ahead: deque[Future] = deque()
                for items in self.loader:
                    ahead.append(thread.submit(self._decode, items))
                    if len(ahead) > AHEAD:
                        yield self._handed_over(ahead.popleft().result())
                while ahead:
                    yield self._handed_over(ahead.popleft().result())
            finally:
                thread.submit(self.decoder.close)

    def _decode(self, items: Sequence[Batch]) -> Batch:
        """`batch` on the stream of its own, to its end."""
        if self._stream is None:
            return self.batch(items)
        with torch.cuda.stream(self._stream):
            batch = self.batch(items)
        self._stream.synchronize()
        return batch

    def _handed_over(self, batch: Batch) -> Batch:
        """The frames' memory belongs to the decoding stream, which must not have it back before training is done."""
        if self._stream is not None:
            for tensor in tensors_in([batch.frames, batch.own if isinstance(batch.own, torch.Tensor) else None]):
                tensor.record_stream(torch.cuda.current_stream(self.decoder.device))
        return batch

    def batch(self, items: Sequence[Batch]) -> Batch:
        """Decode items and make a batch of them.

        Raises:
            UserError: DALI decodes none of the videos, and PyAV does: then it is DALI that fails.
        """
        if self.decoder.device.type == "cuda":
            torch.cuda.set_device(self.decoder.device)  # each thread has its own
        items = list(items)
        waiting = list(range(len(items)))
        while waiting:
            encoded = [place for place in waiting if isinstance(items[place].frames, EncodedClip)]
            decoded = self.decoder([items[place].frames for place in encoded])
            refused = [frames for frames in decoded if isinstance(frames, VideoError)]
            replaced = []
            for place, frames in zip(encoded, decoded, strict=True):
                if isinstance(frames, VideoError):
                    frames = self._again(items[place], frames)
                if isinstance(frames, Batch):
                    items[place] = frames
                    replaced.append(place)
                else:
                    items[place] = replace(items[place], frames=frames)
            if len(refused) == len(encoded) > 1 and not replaced:
                raise UserError(f"--decoder dali: DALI decodes no video of a batch, --decoder pyav does: {refused[0]}")
            waiting = replaced
        return collate_videos([self._plain(item) for item in items])

    def _again(self, item: Batch, error: VideoError) -> torch.Tensor | Batch:
        """The frames as PyAV reads them, else another item in place of this one."""
        clip = item.frames
        try:
            frames = read_frames(clip.path, clip.numbers)
        except VideoError as unreadable:
            epoch, index, attempt = item.drawn
            failed = [*item.failed, Skipped(unreadable.path, unreadable.reason)]
            return self.dataset.item(epoch, index, attempt + 1, failed)
        self._say(clip.path, error.reason)
        return frames

    def _plain(self, item: Batch) -> Batch:
        frames = item.frames
        if isinstance(frames, ReadByPyAV):
            self._say(frames.path, frames.reason)
            frames = frames.frames
        frames, own = frames.to(self.decoder.device), item.own
        if isinstance(own, Squares):
            behind = len(frames) - len(own.numbers)
            own = squares_of(frames, torch.arange(behind, len(frames)), own)
            frames = frames[:behind].unflatten(0, (len(item.starts), -1))
        return replace(item, frames=frames, own=own)

    def _say(self, path: str, reason: str) -> None:
        """Once for each reason: it may hold for all files of a set."""
        if reason not in self._said:
            self._said.add(reason)
            warn(f"--decoder dali: {path} and others like it are read with PyAV: {reason}")


def for_dali(dataset: VideoDataset) -> VideoDataset:
    """The same data set, whose files are read for the decoder that there is here."""
    return dataset.with_reader(EncodedReader(torch.cuda.is_available()))


def by_dali(loader: Iterable, dataset: VideoDataset, videos: int, threads: int) -> DALIBatches:
    """Batches of so many videos, decoded on this process's GPU, or on the CPU where there is none."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
    return DALIBatches(loader, dataset, DALIDecoder(videos, threads, device))


def check_dali(videos: Sequence[Video]) -> None:
    """UserError where there is no GPU and a video is in a codec that DALI decodes on a GPU alone."""
    if torch.cuda.is_available():
        return
    for video in videos:
        codec = read_coding(video.path, packets=False).codec
        if codec not in CPU_CODECS:
            raise UserError(
                f"--decoder dali: there is no GPU, and DALI on the CPU decodes only VP8, VP9 and MJPEG; {video.path} "
                f"is {codec}; --decoder pyav reads it"
            )


def check_reads_frames(dataset: VideoDataset) -> None:
    """UserError where a method reads more of a file than its frames."""
    if type(dataset.reader) is not FrameReader:
        raise UserError("--decoder dali: this method reads key frames and motion vectors too; --decoder pyav does")
