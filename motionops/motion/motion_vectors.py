"""Motion from the compressed stream: maps of the motion vectors that a video is coded with, at decode speed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from motionops.codec import pack_records, rasterize_motion_vectors
from motionops.motion.vector_decoder import CodedFrame, VectorDecoder
from motionops.video.counting.key_frames import NOT_KNOWN, KeyFrame, KeyFrames
from motionops.video.decoder import NotThere
from motionops.video.reading import frame_numbers, require_room
from motionops.video.sources.faults import VideoError, tried_again

BYTES_AT_ONCE = (
    1 << 20
)  # of records that are rasterised together: fewer calls, and memory that a long video does not grow


class CodedClip(NamedTuple):
    """What :func:`read_coded_clip` gives."""

    frames: torch.Tensor  # uint8 [..., H, W, 3]
    key_frame: torch.Tensor  # uint8 [H, W, 3]
    motion: torch.Tensor  # float32 [..., 2, h, w]


@tried_again
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
    return whole_motion(path, cell=cell)[0]


def whole_motion(path: str | os.PathLike, *, cell: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`read_motion_vectors`, and bool ``[F]``: which frames are I-frames, which are coded without vectors."""
    with VectorDecoder(path) as decoder:
        maps, intra = _Maps(decoder, cell), []

        def watched():
            for number, frame in enumerate(decoder.frames()):
                intra.append(decoder.is_intra(frame))
                yield number, frame

        for coded in decoder.with_vectors(watched()):
            maps.add(coded, coded.number)
        decoder.check_end(len(intra))
        decoder.warn()
        return maps.result(len(intra)), torch.tensor(intra, dtype=torch.bool)


@tried_again
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
    return coded_clip(path, frames, motion, cell=cell)[0]


def coded_clip(
    path: str | os.PathLike,
    frames: Sequence[int] | torch.Tensor,
    motion: Sequence[int] | torch.Tensor,
    *,
    cell: int = 8,
    key: tuple[float, int, int] | None = None,
    keys: KeyFrames = NOT_KNOWN,
) -> tuple[CodedClip, torch.Tensor]:
    """:func:`read_coded_clip`, and bool ``[...]``: which frames of ``motion`` are I-frames.

    ``keys`` of a video that was checked: decoding begins at the key frame before all that is wanted.

    With ``key``, a number in [0, 1) and the first and the last frame of a clip, the key frame is drawn by that number
    among those around the clip: the last I-frame at or before it, those within, and the first one at or behind its end.
    """
    frames = frame_numbers("read_coded_clip", "frames", frames)
    motion = frame_numbers("read_coded_clip", "motion", motion)
    if frames.numel() == 0:
        raise ValueError("read_coded_clip: frames must name a frame, got none")
    lot, first, end = (0.0, int(frames.min()), 0) if key is None else key
    near = keys.up_to(min(first, *(int(numbers.min()) for numbers in (frames, motion) if numbers.numel())))
    if near:
        with contextlib.suppress(NotThere):
            return _coded_clip(path, frames, motion, cell, (lot, first, end), key is None, near)
    return _coded_clip(path, frames, motion, cell, (lot, first, end), key is None, [])


def _coded_clip(
    path: str | os.PathLike,
    frames: torch.Tensor,
    motion: torch.Tensor,
    cell: int,
    key: tuple[float, int, int],
    closed: bool,
    near: Sequence[KeyFrame],
) -> tuple[CodedClip, torch.Tensor]:
    """:func:`coded_clip`, from the last of these key frames on, without any from the beginning.

    ``closed``: no I-frame behind the first one of the clip is asked for. Raises NotThere as ``frames_from``.
    """
    lot, first, end = key
    pictures, picture_places = torch.unique(frames, return_inverse=True)
    moving, moving_places = torch.unique(motion, return_inverse=True)
    picture_rows = {number: row for row, number in enumerate(pictures.tolist())}
    moving_rows = {number: row for row, number in enumerate(moving.tolist())}
    last = max(int(pictures[-1]), int(moving[-1]) if len(moving) else 0)

    with VectorDecoder(path, wanted=moving_rows) as decoder:
        maps = _Maps(decoder, cell)
        found: np.ndarray | None = None
        around = []  # the I-frames that the lot is drawn of; where it is closed there can be no more
        intra = torch.zeros(len(moving), dtype=torch.bool)

        def converted():
            """The frames; on their way those that are wanted are converted."""
            nonlocal found, around, closed
            for number, frame in decoder.frames_from(near) if near else enumerate(decoder.frames()):
                if found is None:
                    if near and not decoder.is_intra(frame):
                        raise NotThere
                    require_room(path, len(pictures), *decoder.size(frame))
                    found = decoder.room(len(pictures), frame)
                    around = [frame]
                elif number <= first and decoder.is_intra(frame):
                    around = [frame]
                elif not closed and decoder.is_intra(frame):
                    around.append(frame)
                closed = closed or (number >= end and decoder.is_intra(frame))
                if number in moving_rows:
                    intra[moving_rows[number]] = decoder.is_intra(frame)
                if number in picture_rows:
                    decoder.convert(frame, found[picture_rows[number]])
                yield number, frame

        count = 0
        for coded in decoder.with_vectors(converted()):
            if coded.number in moving_rows:
                maps.add(coded, moving_rows[coded.number])
            count = coded.number + 1
            if count > last and closed:
                break
        else:
            if near and count <= last:
                raise NotThere
            decoder.check_end(count)
            if count <= last:
                raise VideoError(path, f"has {count} frames, frame {last} was asked for")
        decoder.warn()
        vectors = maps.result(len(moving))
        key_frame = np.empty_like(found[0])
        decoder.convert(around[int(lot * len(around))], key_frame)
    shape = found.shape[1:]
    clip = CodedClip(
        torch.from_numpy(found)[picture_places.flatten()].reshape(*frames.shape, *shape),
        torch.from_numpy(key_frame),
        vectors[moving_places.flatten()].reshape(*motion.shape, *vectors.shape[1:]),
    )
    return clip, intra[moving_places.flatten()].reshape(motion.shape)


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
        height, width = self.decoder.picture
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
        rows = self.decoder.turn.blocks(rows, *self.decoder.picture)
        return rasterize_motion_vectors(rows, len(frames), *self.decoder.picture, cell=self.cell)
