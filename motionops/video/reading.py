"""Reading frames with PyAV.

A frame is named by its place in decoding order (the order in which a full decode puts frames out): 0 is the first.
Frame counts and time stamps of files are not believed: headers count dropped frames, AVI packs two B-frames into one
packet, frame rates vary. Decoding therefore begins at the first frame and ends at the last one asked for; only frames
that are asked for are converted to RGB, which costs more than decoding them.

Every failure is a :class:`VideoError` with the path and the reason.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from motionops.video.counting.contents import Contents, contents_by_packets, tells
from motionops.video.counting.key_frames import NOT_KNOWN, KeyFrames, Run, runs_by_key_frame
from motionops.video.decoder import Decoder, NotThere
from motionops.video.sources.faults import Tries, VideoError, tried_again
from motionops.video.upright import AS_STORED, Turn

PIECE_BYTES = 512 << 20  # decoded, of a piece of :func:`read_pieces`
MOST_READ = 2 << 30  # bytes of the frames that :func:`read_frames` decodes at once


class Coding(NamedTuple):
    """How a file holds its video, without a frame being decoded.

    ``container`` is FFmpeg's name of the file's format, ``colours`` the number of the colour matrix (ITU-T H.273: 1 is
    BT.709, 2 unspecified), ``height`` and ``width`` those of the stored picture; ``stamps`` are the times of the
    packets in file order, None where a packet has none. ``turn`` makes the pictures upright.
    """

    container: str
    codec: str
    pixel_format: str
    colours: int
    height: int
    width: int
    stamps: list[int | None]
    turn: Turn = AS_STORED


@tried_again
def read_video(path: str | os.PathLike) -> torch.Tensor:
    """Decode a whole video.

    Args:
        path: the file.

    Returns:
        uint8 RGB ``[F, H, W, 3]``, upright: turned and mirrored as the file says (phones do). Where the picture size
        changes within the video, later frames are scaled to the first one's size.

    Raises:
        VideoError: the file is missing, empty, not a video, cut short, damaged, or holds no frame.
        ImportError: PyAV is not installed.
    """
    with Decoder(path) as decoder:
        return decoder.read_all()


def read_pieces(path: str | os.PathLike, frames: int) -> Iterator[torch.Tensor]:
    """Decode a whole video piece by piece, so that memory does not grow with its length.

    Args:
        path: the file.
        frames: of a piece, at least 1; the last one may have fewer.

    Returns:
        Pieces uint8 RGB ``[n, H, W, 3]``, one after the other what :func:`read_video` gives; fewer frames each where
        the pictures are very large.

    Raises:
        As :func:`read_video`; damage is found when its piece is read, a cut file after the last piece.
    """
    tries, done = Tries(), 0
    while True:
        try:
            for piece in _pieces(path, frames, done):
                done += len(piece)
                yield piece
            return
        except VideoError as error:
            tries.again(error)


def _pieces(path: str | os.PathLike, frames: int, first: int) -> Iterator[torch.Tensor]:
    """The pieces from a frame on."""
    with Decoder(path) as decoder:
        piece: np.ndarray | None = None
        count = filled = 0
        for count, frame in enumerate(decoder.frames(), start=1):
            if count <= first:
                continue
            if piece is None:
                most = max(PIECE_BYTES // (frame.height * frame.width * 3), 1)
                piece, filled = decoder.room(min(frames, most), frame), 0
            decoder.convert(frame, piece[filled])
            filled += 1
            if filled == len(piece):
                yield torch.from_numpy(piece)
                piece = None
        decoder.check_end(count)
        if piece is not None:
            yield torch.from_numpy(piece[:filled])


@tried_again
def read_video_if_small(path: str | os.PathLike, frames: int, most_bytes: int) -> torch.Tensor | None:
    """As :func:`read_video`, or None where the frames would take more than ``most_bytes``.

    ``frames`` is their number, of which nothing is decoded where it is too large; -1 believes the header.
    """
    with Decoder(path) as decoder:
        return decoder.read_all(most_bytes) if decoder.fits(frames, most_bytes) else None


@tried_again
def key_frame_numbers(path: str | os.PathLike) -> torch.Tensor:
    """The numbers of a video's key frames (I-frames: coded without any other frame), int64 ``[K]``, rising.

    Raises:
        VideoError: as :func:`read_video`.
    """
    with Decoder(path) as decoder:
        kind = decoder.av.video.frame.PictureType.I
        numbers = [number for number, frame in enumerate(decoder.frames()) if frame.pict_type == kind]
        return torch.tensor(numbers, dtype=torch.int64)


@tried_again
def read_frames(
    path: str | os.PathLike, indices: Sequence[int] | torch.Tensor, keys: KeyFrames = NOT_KNOWN
) -> torch.Tensor:
    """Decode the frames with these numbers.

    Args:
        path: the file.
        indices: frame numbers in decoding order, in any order, repeats allowed; N of them. A tensor of any shape
            ``[...]`` is taken too, and its shape kept.
        keys: of the :class:`Video` that :func:`check_videos` returned: decoding begins at the key frame before each
            clip, not at the first frame. The frames are the same.

    Returns:
        uint8 RGB ``[N, H, W, 3]`` (or ``[..., H, W, 3]``), equal to ``read_video(path)[indices]``.

    Raises:
        ValueError: an index is negative or not an integer.
        VideoError: as :func:`read_video`, for the part up to the last frame asked for; or the video ends before it.
    """
    wanted = frame_numbers("read_frames", "indices", indices)
    numbers, places = torch.unique(wanted, return_inverse=True)
    found = None
    if len(runs := runs_by_key_frame(numbers.tolist(), keys)) > 1 or runs[0].keys:
        with Decoder(path) as decoder, contextlib.suppress(NotThere):
            found = _chosen(decoder, runs, len(numbers))
    if found is None:
        with Decoder(path) as decoder:
            found = _chosen(decoder, [Run(numbers.tolist(), [])], len(numbers))
    frames = torch.from_numpy(found)
    if len(numbers) == wanted.numel() and bool((places.flatten() == torch.arange(len(numbers))).all()):
        return frames.reshape(*wanted.shape, *frames.shape[1:])
    return frames[places.flatten()].reshape(*wanted.shape, *frames.shape[1:])


def _chosen(decoder: Decoder, runs: Sequence[Run], count: int) -> np.ndarray:
    """The frames of all runs, `count` in all, ``[count, H, W, 3]``."""
    found: np.ndarray | None = None
    first = 0  # row of a run's first frame
    for run in runs:
        rows = {number: first + place for place, number in enumerate(run.numbers)}
        last = run.numbers[-1] if run.numbers else 0  # with nothing asked for, the first frame still tells the size
        number = -1
        for number, frame in decoder.frames_from(run.keys) if run.keys else enumerate(decoder.frames()):
            if found is None:
                require_room(decoder.path, count, *decoder.size(frame))
                found = decoder.room(count, frame)
            if number in rows:
                decoder.convert(frame, found[rows[number]])
            if number >= last:
                break
        else:
            if run.keys:
                raise NotThere
            decoder.check_end(number + 1)
            raise VideoError(decoder.path, f"has {number + 1} frames, frame {last} was asked for")
        first += len(run.numbers)
    return found


def require_room(path: str | os.PathLike, frames: int, height: int, width: int) -> None:
    """VideoError where so many frames are more than is read at once."""
    needed = frames * height * width * 3
    if needed > MOST_READ:
        raise VideoError(
            path,
            f"is too large: {frames} frames of {width}x{height} pixels take {needed / 2**30:.1f} GiB decoded, "
            f"{MOST_READ >> 30} GiB are read at once",
        )


@tried_again
def count_frames(path: str | os.PathLike) -> int:
    """The number of frames that decode, all of which are decoded. Raises as :func:`read_video`."""
    return _decoded(path).frames


@tried_again
def measure(path: str | os.PathLike, decode: bool = False) -> Contents:
    """How many frames a video has, their size, and its key frames: the shape of what :func:`read_video` gives.

    Where the packets tell it, a few frames are decoded, and what is wrong with the others is not seen; with ``decode``
    all are. Raises as :func:`read_video`.
    """
    told = None
    with Decoder(path) as decoder:
        if tells(decoder):
            told = contents_by_packets(decoder)
    if told and not decode:
        return told
    found = _decoded(path)
    return found._replace(keys=told.keys) if told and told[:3] == found[:3] else found


def _decoded(path: str | os.PathLike) -> Contents:
    count, picture = 0, (0, 0)
    with Decoder(path) as decoder:
        for frame in decoder.frames():
            if not count:
                picture = decoder.size(frame)
            count += 1
        decoder.check_end(count)
    return Contents(count, *picture, decoded=True)


@tried_again
def read_coding(path: str | os.PathLike, packets: bool = True) -> Coding:
    """How a file holds its video; unless ``packets`` are asked for, ``stamps`` is empty and ``turn`` not known.

    Raises:
        VideoError: as :func:`read_video` on opening.
    """
    with Decoder(path) as decoder:
        context = decoder.stream.codec_context
        return Coding(
            container=decoder.container.format.name,
            codec=context.codec.canonical_name,
            pixel_format=str(context.pix_fmt),
            colours=int(context.colorspace),
            height=context.height,
            width=context.width,
            stamps=decoder.stamps() if packets else [],
            turn=decoder.turn,
        )


def frame_numbers(function: str, argument: str, numbers: Sequence[int] | torch.Tensor) -> torch.Tensor:
    """The numbers as int64 of their shape; ValueError naming function and argument where they can be no frames."""
    wanted = torch.as_tensor(numbers)
    if wanted.numel() and (wanted.is_floating_point() or wanted.is_complex() or wanted.dtype == torch.bool):
        raise ValueError(f"{function}: {argument} must be integers, got {wanted.dtype}")
    wanted = wanted.to(torch.int64)
    if wanted.numel() and int(wanted.min()) < 0:
        raise ValueError(f"{function}: {argument} must be >= 0, got {int(wanted.min())}")
    return wanted
