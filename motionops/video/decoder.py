"""An open video file, and what can be wrong with one."""

from __future__ import annotations

import itertools
import math
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import torch

from motionops.extras import require_av
from motionops.video.counting.key_frames import KeyFrame
from motionops.video.sources import opened
from motionops.video.sources.faults import OF_THE_DISK, Damaged, VideoError, fault_of
from motionops.video.truncation import missing_end
from motionops.video.upright import AS_STORED, Turn

FIRST_GUESS = 64  # frames: the buffer of a video whose header names no count
MOST_GUESSED = 1 << 30  # bytes: a header that counts more is not trusted with memory; the buffer grows as frames come
# Of a picture: 8K video has 33 million. A small file can hold pictures that fill the memory of any machine.
MOST_PIXELS = 48 << 20


class NotThere(Exception):
    """Decoding from a key frame did not go as the packets had it; from the beginning on it goes as it may."""


class Decoder:
    """An open video file. One decoding thread: many worker processes share the cores already.

    Attributes:
        turn: what makes its pictures upright; known with the first frame.
        stated_size: height and width of the stored pictures as the file's header has them.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        self.av = require_av()
        self.source: BinaryIO | None = None  # of a video that is no file of its own
        self.container = None
        self.turn = Turn()
        self.reformatter = self.av.video.reformatter.VideoReformatter()  # one, or each frame sets up its own tables

    def __enter__(self) -> Decoder:
        self.source = opened(self.path)
        if self.source is None:
            self._require_a_file()
        try:
            # "file:" so that a name with a colon is a name; metadata may be in any encoding.
            held = "file:" + self.path if self.source is None else self.source
            self.container = self.av.open(held, metadata_errors="replace")
        except self.av.error.FFmpegError as error:
            raise self._failed(error, "is not a video") from error
        try:
            self.stream = self.container.streams.best("video")  # not the picture of an album's cover
            if self.stream is None:
                raise VideoError(self.path, "holds no video stream")
            if self.stream.codec_context is None:
                raise VideoError(self.path, "is in a codec that this PyAV does not decode")
            context = self.stream.codec_context
            context.thread_count = 1
            self.stated_size = context.height, context.width
            context.options = {"max_pixels": str(MOST_PIXELS)}  # of later pictures of another size
            if context.height * context.width > MOST_PIXELS:
                raise VideoError(
                    self.path,
                    f"has pictures of {context.width}x{context.height} pixels; {MOST_PIXELS} at most are decoded",
                )
        except BaseException:
            self.container.close()
            raise
        return self

    def _require_a_file(self) -> None:
        try:
            status = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            raise VideoError(self.path, "no such file") from None
        except OSError as error:
            raise self._failed(error, "cannot be read") from error
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(self.path, "is not a file")
        if status.st_size == 0:
            raise VideoError(self.path, "is empty (0 bytes)")

    def __exit__(self, *_) -> None:
        self.container.close()
        if self.source is not None:
            self.source.close()

    def fits(self, frames: int, most_bytes: int) -> bool:
        """Whether so many frames (-1: as many as the header says) take at most ``most_bytes``."""
        context = self.stream.codec_context
        frames = self.stream.frames if frames < 0 else frames
        return max(frames, 1) * context.height * context.width * 3 <= most_bytes

    def frames(self) -> Iterator:
        """Frames in the order in which the decoder puts them out."""
        count = 0
        try:
            for frame in self.container.decode(self.stream):
                if frame.is_corrupt:
                    raise self._judged(f"is damaged at frame {count}")
                if count == 0:
                    self.turn = Turn.of(frame)
                yield frame
                count += 1
        except self.av.error.FFmpegError as error:
            raise self._failed(error, f"is damaged after {count} frames") from error

    def frames_from(self, keys: Sequence[KeyFrame]) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers, from the last of some key frames on, or one before it where the container leads.

        Raises:
            NotThere: it leads elsewhere, or what follows is not the key frame and one frame after the other.
        """
        known = {key.shown: key.number for key in keys}
        try:
            self.container.seek(keys[-1].sought, stream=self.stream)
            packets = self.container.demux(self.stream)
            first = next(packets, None)
            if first is None or first.pts not in known:
                raise NotThere
            begin, number, last = first.pts, known[first.pts], None
            for packet in itertools.chain([first], packets):
                for frame in packet.decode():
                    stamp = frame.pts
                    if stamp is None or frame.is_corrupt or (stamp != begin if last is None else stamp <= last):
                        raise NotThere
                    if last is None:
                        if (frame.height, frame.width) != self.stated_size:
                            raise NotThere  # later frames are scaled to the first one's size, which is not known here
                        self.turn = Turn.of(frame)
                    yield number, frame
                    number, last = number + 1, stamp
        except self.av.error.FFmpegError as error:
            raise NotThere from error

    def stamps(self) -> list[int | None]:
        """The times of the packets; the file's end is reached. One frame is decoded, which tells the turn."""
        stamps, decoding = [], True
        try:
            for packet in self.container.demux(self.stream):
                if packet.size:
                    stamps.append(packet.pts)
                if decoding:
                    decoding = not self.find_turn(packet)
        except self.av.error.FFmpegError as error:
            raise self._failed(error, "is damaged") from error
        return stamps

    def find_turn(self, packet) -> bool:
        """Whether a packet gave a frame or none can be had; what is wrong then is for those to say who want frames."""
        try:
            frame = next(iter(packet.decode()), None)
        except self.av.error.FFmpegError:
            return True
        if frame is not None:
            self.turn = Turn.of(frame)
        return frame is not None

    def size(self, frame) -> tuple[int, int]:
        """Height and width of a frame, upright."""
        return self.turn.size(frame.height, frame.width)

    def room(self, frames: int, frame) -> np.ndarray:
        """Memory for pictures of a frame's size, uint8 ``[frames, H, W, 3]``. VideoError where there is none."""
        height, width = self.size(frame)
        try:
            return np.empty((frames, height, width, 3), dtype=np.uint8)
        except MemoryError as error:
            needed = frames * height * width * 3 / 2**30
            raise VideoError(
                self.path,
                f"is too large: {frames} frames of {width}x{height} pixels take {needed:.1f} GiB, which there are not",
            ) from error

    def convert(self, frame, out: np.ndarray) -> None:
        """Write ``frame`` as RGB, upright, into ``out``, uint8 ``[H, W, 3]``."""
        height, width = self.turn.size(*out.shape[:2])
        plane = self.reformatter.reformat(frame, width, height, "rgb24").planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, : width * 3]
        if self.turn == AS_STORED:
            out.reshape(height, width * 3)[:] = rows
        else:
            out[:] = self.turn.pictures(rows.reshape(height, width, 3))

    def read_all(self, most_bytes: int | None = None) -> torch.Tensor | None:
        """Every frame, uint8 ``[F, H, W, 3]``; None where they take more than so many bytes."""
        buffer: np.ndarray | None = None
        count = 0
        for frame in self.frames():
            if buffer is None:
                picture_bytes = frame.height * frame.width * 3
                most = math.inf if most_bytes is None else most_bytes // picture_bytes
                guess = min(self.stream.frames or FIRST_GUESS, max(MOST_GUESSED // picture_bytes, 1))
                buffer = self.room(guess, frame)
            if count == most:
                return None
            if count == len(buffer):
                larger = self.room(count + max(count // 2, 1), frame)
                larger[:count] = buffer
                buffer = larger
            self.convert(frame, buffer[count])
            count += 1
        self.check_end(count)
        # A copy where the guess was too large, so that the memory behind the result is the result's.
        return torch.from_numpy(buffer if count == len(buffer) else buffer[:count].copy())

    def _failed(self, error: OSError, what: str) -> VideoError:
        """What an error of the system or of FFmpeg is called: the disk's, a cut file's, else what it says itself."""
        if error.errno in OF_THE_DISK or isinstance(error, PermissionError):
            return fault_of(self.path, error)
        return self._judged(f"{what} ({words(error)})")

    def _judged(self, damage: str) -> VideoError:
        """That the file was cut, where it was, else the damage."""
        reason = missing_end(self.path if self.source is None else self.source)
        return VideoError(self.path, reason) if reason else Damaged(self.path, damage)

    def check_end(self, count: int) -> None:
        """After the last frame: raise where it was not the last one that was filmed."""
        reason = missing_end(self.path if self.source is None else self.source)
        if reason:
            raise VideoError(self.path, f"{reason}; {count} frames decode")
        if count == 0:
            raise VideoError(self.path, "holds no frame that decodes")


def words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
