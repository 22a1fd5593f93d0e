"""Motion from the compressed stream: maps of the motion vectors that a video is coded with, at decode speed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from motionops.codec import pack_records, rasterize_motion_vectors
from motionops.motion.vector_decoder import CodedFrame, VectorDecoder
from motionops.video.reading import VideoError, frame_numbers

BYTES_AT_ONCE = (
    1 << 20
)  # of records that are rasterised together: fewer calls, and memory that a long video does not grow


class CodedClip(NamedTuple):
    """What :func:`read_coded_clip` gives."""

    frames: torch.Tensor  # uint8 [..., H, W, 3]
    key_frame: torch.Tensor  # uint8 [H, W, 3]
    motion: torch.Tensor  # float32 [..., 2, h, w]


def read_motion_vectors(path: str | os.PathLike, *, cell: int = 8) -> torch.Tensor:
    """The motion vectors of a whole video as maps, without converting a picture.

    A map holds each cell's mean displacement from the frame before to this one, in pixels a frame; see
    :func:`motionops.rasterize_motion_vectors`. Vectors that lead to a frame n frames away are divided by n. Of two
    runs, or of several processes at once, all maps are the same to the bit.

    Args:
        path: a video in H.264, MPEG-4, MPEG-2 or a relative of these.
        cell: side of a cell in pixels.

    Returns:
        float32 ``[F, 2, ceil(H / cell), ceil(W / cell)]``: a map a frame, in the order of
        :func:`motionops.video.read_video`; channel 0 is u (pixels to the right), 1 is v (down). I-frames and blocks
        without a vector are 0.

    Raises:
        ValueError: ``cell`` is below 1.
        VideoError: as :func:`motionops.video.read_video`; the codec (HEVC, VP9, AV1, ...) has no vectors that can be
            read, or the picture size changes; the text names the command that mends it.

    Warns:
        MotionVectorWarning: once a file, where it has B-frames or several reference pictures: which one a vector leads
            to is not known then, and it may be wrong.
    """
    with VectorDecoder(path) as decoder:
        maps = _Maps(decoder, cell)
        count = 0
        for coded in decoder.with_vectors(decoder.frames()):
            maps.add(coded, coded.number)
            count = coded.number + 1
        decoder.check_end(count)
        decoder.warn()
        return maps.result(count)


def read_coded_clip(
    path: str | os.PathLike,
    frames: Sequence[int] | torch.Tensor,
    motion: Sequence[int] | torch.Tensor,
    *,
    cell: int = 8,
) -> CodedClip:
    """Frames of a video, the key frame near them, and maps of motion vectors, from one decode.

    Args:
        path: as :func:`read_motion_vectors`.
        frames: int64 of any shape ``[...]``: the numbers of the frames, in any order, repeats allowed.
        motion: int64 of any shape ``[...]``: the numbers of the frames whose motion vectors are wanted. Where there are
            none, the codec need not have any.
        cell: side of a cell in pixels.

    Returns:
        ``frames`` uint8 RGB ``[..., H, W, 3]``, as :func:`motionops.video.read_frames`; ``key_frame`` uint8 RGB
        ``[H, W, 3]``, the last I-frame at or before the smallest number of ``frames`` (the first frame where there is
        none); ``motion`` float32 ``[..., 2, ceil(H / cell), ceil(W / cell)]``, equal to
        ``read_motion_vectors(path, cell=cell)[motion]``.

    Raises:
        ValueError: a number is negative or no integer; ``frames`` is empty; ``cell`` is below 1.
        VideoError: as :func:`read_motion_vectors`, for the part that is decoded; or the video ends before a frame that
            was asked for.

    Warns:
        MotionVectorWarning: as :func:`read_motion_vectors`, by the part that is decoded.
    """
    frames = frame_numbers("read_coded_clip", "frames", frames)
    motion = frame_numbers("read_coded_clip", "motion", motion)
    if frames.numel() == 0:
        raise ValueError("read_coded_clip: frames must name a frame, got none")
    pictures, picture_places = torch.unique(frames, return_inverse=True)
    moving, moving_places = torch.unique(motion, return_inverse=True)
    picture_rows = {number: row for row, number in enumerate(pictures.tolist())}
    moving_rows = {number: row for row, number in enumerate(moving.tolist())}
    first, last = int(pictures[0]), max(int(pictures[-1]), int(moving[-1]) if len(moving) else 0)

    with VectorDecoder(path, wanted=moving_rows) as decoder:
        maps = _Maps(decoder, cell)
        found: np.ndarray | None = None
        key = key_frame = None

        def converted():
            """The frames; on their way those that are wanted are converted."""
            nonlocal found, key, key_frame
            for number, frame in enumerate(decoder.frames()):
                if number == 0:
                    found = np.empty((len(pictures), frame.height, frame.width, 3), dtype=np.uint8)
                if number <= first and (number == 0 or decoder.is_intra(frame)):
                    key = frame
                if number == first:
                    key_frame = np.empty_like(found[0])
                    decoder.convert(key, key_frame)
                    key = None
                if number in picture_rows:
                    decoder.convert(frame, found[picture_rows[number]])
                yield frame

        count = 0
        for coded in decoder.with_vectors(converted()):
            if coded.number in moving_rows:
                maps.add(coded, moving_rows[coded.number])
            count = coded.number + 1
            if count > last:
                break
        else:
            decoder.check_end(count)
            raise VideoError(path, f"has {count} frames, frame {last} was asked for")
        decoder.warn()
        vectors = maps.result(len(moving))
    shape = found.shape[1:]
    return CodedClip(
        torch.from_numpy(found)[picture_places.flatten()].reshape(*frames.shape, *shape),
        torch.from_numpy(key_frame),
        vectors[moving_places.flatten()].reshape(*motion.shape, *vectors.shape[1:]),
    )


class _Maps:
    """Gathers the blocks of frames, and rasterises many frames at a time."""

    def __init__(self, decoder: VectorDecoder, cell: int) -> None:
        self.decoder, self.cell = decoder, cell
        self.waiting: list[tuple[int, CodedFrame]] = []
        self.bytes = 0
        self.done: list[tuple[list[int], torch.Tensor]] = []
        self.rasterize([])  # which checks `cell` before anything is decoded

    def add(self, coded: CodedFrame, row: int) -> None:
        """Take the blocks of a frame whose map is to be this row of the result."""
        if coded.records:
            self.waiting.append((row, coded))
            self.bytes += len(coded.records)
            if self.bytes >= BYTES_AT_ONCE:
                self.flush()

    def result(self, rows: int) -> torch.Tensor:
        """float32 ``[rows, 2, h, w]``; rows that were not added are 0."""
        self.flush()
        height, width = self.decoder.size
        result = torch.zeros(rows, 2, -(-height // self.cell), -(-width // self.cell))
        for places, maps in self.done:
            result[places] = maps
        return result

    def flush(self) -> None:
        if self.waiting:
            self.done.append(([row for row, _ in self.waiting], self.rasterize([coded for _, coded in self.waiting])))
            self.waiting, self.bytes = [], 0

    def rasterize(self, frames: list[CodedFrame]) -> torch.Tensor:
        """Maps float32 ``[len(frames), 2, h, w]``."""
        if not frames:
            return rasterize_motion_vectors(torch.empty(0, 9, dtype=torch.int32), 0, 0, 0, cell=self.cell)
        records = np.frombuffer(b"".join(coded.records for coded in frames), self.decoder.records_type)
        counts = [len(coded.records) // records.itemsize for coded in frames]
        numbers = np.repeat(np.arange(len(frames)), counts)
        rows = pack_records({"frame": numbers, **{name: records[name] for name in records.dtype.names}})
        if any(coded.before != 1 or coded.after != 1 for coded in frames):
            before, after = (np.array([getattr(coded, side) for coded in frames]) for side in ("before", "after"))
            source = np.where(records["source"] < 0, -before[numbers], after[numbers])
            rows[:, 1] = torch.from_numpy(source)
        return rasterize_motion_vectors(rows, len(frames), *self.decoder.size, cell=self.cell)
