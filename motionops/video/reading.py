"""Reading frames with PyAV.

A frame is named by its place in decoding order (the order in which a full decode puts frames out): 0 is the first.
Frame counts and time stamps of files are not believed: headers count dropped frames, AVI packs two B-frames into one
packet, frame rates vary. Decoding therefore begins at the first frame and ends at the last one asked for; only frames
that are asked for are converted to RGB, which costs more than decoding them.

Every failure is a :class:`VideoError` with the path and the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from motionops.errors import UserError
from motionops.video.pyav import require_av
from motionops.video.truncation import missing_end

FIRST_GUESS = 64  # frames: the buffer of a video whose header names no count
MOST_GUESSED = 1 << 30  # bytes: a header that counts more is not trusted with memory; the buffer grows as frames come


class VideoError(UserError):
    """A video that cannot be used; ``path`` and ``reason`` say which and why."""

    def __init__(self, path: str | os.PathLike, reason: str) -> None:
        super().__init__(path, reason)  # both, so that it survives the way back from another process
        self.path = os.fspath(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Coding(NamedTuple):
    """How a file holds its video, without a frame being decoded.

    ``container`` is FFmpeg's name of the file's format, ``colours`` the number of the colour matrix (ITU-T H.273: 1 is
    BT.709, 2 unspecified); ``stamps`` are the times of the packets in file order, None where a packet has none.
    """

    container: str
    codec: str
    pixel_format: str
    colours: int
    height: int
    width: int
    stamps: list[int | None]


def read_video(path: str | os.PathLike) -> torch.Tensor:
    """Decode a whole video.

    Args:
        path: the file.

    Returns:
        uint8 RGB ``[F, H, W, 3]``, as stored (a phone's rotation flag is not applied). Where the picture size changes
        within the video, later frames are scaled to the first one's size.

    Raises:
        VideoError: the file is missing, empty, not a video, cut short, damaged, or holds no frame.
        ImportError: PyAV is not installed.
    """
    with _Decoder(path) as decoder:
        return decoder.read_all()


def read_pieces(path: str | os.PathLike, frames: int) -> Iterator[torch.Tensor]:
    """Decode a whole video piece by piece, so that memory does not grow with its length.

    Args:
        path: the file.
        frames: of a piece, at least 1; the last one may have fewer.

    Returns:
        Pieces uint8 RGB ``[n, H, W, 3]``, one after the other what :func:`read_video` gives.

    Raises:
        As :func:`read_video`; damage is found when its piece is read, a cut file after the last piece.
    """
    with _Decoder(path) as decoder:
        piece: np.ndarray | None = None
        count = 0
        for frame in decoder.frames():
            if piece is None:
                piece = np.empty((frames, frame.height, frame.width, 3), dtype=np.uint8)
            decoder.convert(frame, piece[count % frames])
            count += 1
            if count % frames == 0:
                yield torch.from_numpy(piece)
                piece = np.empty_like(piece)
        decoder.check_end(count)
        if count % frames:
            yield torch.from_numpy(piece[: count % frames])


def read_video_if_small(path: str | os.PathLike, frames: int, most_bytes: int) -> torch.Tensor | None:
    """As :func:`read_video`, or None where the frames would take more than ``most_bytes``.

    ``frames`` is their number; -1 believes the header, which is good enough to decide about memory.
    """
    with _Decoder(path) as decoder:
        return decoder.read_all() if decoder.fits(frames, most_bytes) else None


def fits_memory(path: str | os.PathLike, frames: int, most_bytes: int) -> bool:
    """Whether the frames, decoded, take at most ``most_bytes``; ``frames`` as of :func:`read_video_if_small`."""
    with _Decoder(path) as decoder:
        return decoder.fits(frames, most_bytes)


def key_frame_numbers(path: str | os.PathLike) -> torch.Tensor:
    """The numbers of a video's key frames (I-frames: coded without any other frame), int64 ``[K]``, rising.

    Raises:
        VideoError: as :func:`read_video`.
    """
    with _Decoder(path) as decoder:
        kind = decoder.av.video.frame.PictureType.I
        numbers = [number for number, frame in enumerate(decoder.frames()) if frame.pict_type == kind]
        return torch.tensor(numbers, dtype=torch.int64)


def read_frames(path: str | os.PathLike, indices: Sequence[int] | torch.Tensor) -> torch.Tensor:
    """Decode the frames with these numbers.

    Args:
        path: the file.
        indices: frame numbers in decoding order, in any order, repeats allowed; N of them. A tensor of any shape
            ``[...]`` is taken too, and its shape kept.

    Returns:
        uint8 RGB ``[N, H, W, 3]`` (or ``[..., H, W, 3]``), equal to ``read_video(path)[indices]``.

    Raises:
        ValueError: an index is negative or not an integer.
        VideoError: as :func:`read_video`, for the part up to the last frame asked for; or the video ends before it.
    """
    wanted = frame_numbers("read_frames", "indices", indices)
    numbers, places = torch.unique(wanted, return_inverse=True)
    found: np.ndarray | None = None
    # With nothing asked for, the first frame still tells the size.
    last = int(numbers[-1]) if len(numbers) else 0
    rows = {number: row for row, number in enumerate(numbers.tolist())}
    count = 0
    with _Decoder(path) as decoder:
        for frame in decoder.frames():
            if found is None:
                found = np.empty((len(numbers), frame.height, frame.width, 3), dtype=np.uint8)
            if count in rows:
                decoder.convert(frame, found[rows[count]])
            count += 1
            if count > last:
                break
        else:
            decoder.check_end(count)
            raise VideoError(path, f"has {count} frames, frame {last} was asked for")
    frames = torch.from_numpy(found)
    if len(numbers) == wanted.numel() and bool((places.flatten() == torch.arange(len(numbers))).all()):
        return frames.reshape(*wanted.shape, *frames.shape[1:])
    return frames[places.flatten()].reshape(*wanted.shape, *frames.shape[1:])


def count_frames(path: str | os.PathLike) -> int:
    """The number of frames that decode. Raises as :func:`read_video`."""
    count = 0
    with _Decoder(path) as decoder:
        for _ in decoder.frames():
            count += 1
        decoder.check_end(count)
    return count


def read_coding(path: str | os.PathLike, packets: bool = True) -> Coding:
    """How a file holds its video; ``stamps`` is empty unless ``packets`` are asked for.

    Raises:
        VideoError: as :func:`read_video` on opening.
    """
    with _Decoder(path) as decoder:
        context = decoder.stream.codec_context
        return Coding(
            container=decoder.container.format.name,
            codec=context.codec.canonical_name,
            pixel_format=str(context.pix_fmt),
            colours=int(context.colorspace),
            height=context.height,
            width=context.width,
            stamps=decoder.stamps() if packets else [],
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


class _Decoder:
    """An open video file. One decoding thread: many worker processes share the cores already."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        self.av = require_av()
        self.container = None
        self.reformatter = self.av.video.reformatter.VideoReformatter()  # one, or each frame sets up its own tables

    def __enter__(self) -> _Decoder:
        if not os.path.exists(self.path):
            raise VideoError(self.path, "no such file")
        if not os.path.isfile(self.path):
            raise VideoError(self.path, "is not a file")
        if os.path.getsize(self.path) == 0:
            raise VideoError(self.path, "is empty (0 bytes)")
        try:
            # "file:" so that a name with a colon is a name; metadata may be in any encoding.
            self.container = self.av.open("file:" + self.path, metadata_errors="replace")
        except self.av.error.FFmpegError as error:
            reason = missing_end(self.path)
            raise VideoError(self.path, reason or f"is not a video ({_words(error)})") from error
        try:
            self.stream = self.container.streams.best("video")  # not the picture of an album's cover
            if self.stream is None:
                raise VideoError(self.path, "holds no video stream")
            if self.stream.codec_context is None:
                raise VideoError(self.path, "is in a codec that this PyAV does not decode")
            self.stream.codec_context.thread_count = 1
        except BaseException:
            self.container.close()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.container.close()

    def fits(self, frames: int, most_bytes: int) -> bool:
        """Whether so many frames (the header's number where it is larger) take at most ``most_bytes``."""
        context = self.stream.codec_context
        return max(frames, self.stream.frames, 1) * context.height * context.width * 3 <= most_bytes

    def frames(self) -> Iterator:
        """Frames in the order in which the decoder puts them out."""
        count = 0
        try:
            for frame in self.container.decode(self.stream):
                if frame.is_corrupt:
                    raise VideoError(self.path, missing_end(self.path) or f"is damaged at frame {count}")
                yield frame
                count += 1
        except self.av.error.FFmpegError as error:
            reason = missing_end(self.path)
            raise VideoError(self.path, reason or f"is damaged after {count} frames ({_words(error)})") from error

    def stamps(self) -> list[int | None]:
        """The times of the packets; the file's end is reached."""
        try:
            return [packet.pts for packet in self.container.demux(self.stream) if packet.size]
        except self.av.error.FFmpegError as error:
            raise VideoError(self.path, missing_end(self.path) or f"is damaged ({_words(error)})") from error

    def convert(self, frame, out: np.ndarray) -> None:
        """Write ``frame`` as RGB into ``out``, uint8 ``[H, W, 3]``."""
        height, width = out.shape[:2]
        plane = self.reformatter.reformat(frame, width, height, "rgb24").planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        out.reshape(height, width * 3)[:] = rows[:height, : width * 3]

    def read_all(self) -> torch.Tensor:
        """Every frame, uint8 ``[F, H, W, 3]``."""
        buffer: np.ndarray | None = None
        count = 0
        for frame in self.frames():
            if buffer is None:
                picture_bytes = frame.height * frame.width * 3
                guess = min(self.stream.frames or FIRST_GUESS, max(MOST_GUESSED // picture_bytes, 1))
                buffer = np.empty((guess, frame.height, frame.width, 3), dtype=np.uint8)
            if count == len(buffer):
                buffer = np.concatenate([buffer, np.empty_like(buffer[: max(count // 2, 1)])])
            self.convert(frame, buffer[count])
            count += 1
        self.check_end(count)
        # A copy where the guess was too large, so that the memory behind the result is the result's.
        return torch.from_numpy(buffer if count == len(buffer) else buffer[:count].copy())

    def check_end(self, count: int) -> None:
        """After the last frame: raise where it was not the last one that was filmed."""
        reason = missing_end(self.path)
        if reason:
            raise VideoError(self.path, f"{reason}; {count} frames decode")
        if count == 0:
            raise VideoError(self.path, "holds no frame that decodes")


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
