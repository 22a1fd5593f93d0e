"""Decoding with motion vectors: which streams have them, how far they reach, and which are to be doubted.

FFmpeg exports the blocks of a frame with ``source`` -1 or +1, for a reference shown before or after, and leaves open
which one that is. A stream of P-frames with one reference picture leaves no choice: the frame before. With B-frames a
reference is taken to be the nearest I- or P-frame on its side, which is right for MPEG-1 and -2 and for H.264 with one
reference a side; blocks of MPEG-4's B-frames that repeat their neighbours' motion are exported with none. The last
frame of MPEG-1 and -2 comes without vectors. A decoder that works on several frames at once exports other vectors from
run to run, so there is one thread.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from motionops.video.counting.h264_header import reference_frames
from motionops.video.counting.key_frames import KeyFrame
from motionops.video.decoder import Decoder
from motionops.video.sources import VideoError, real, state

# FFmpeg's decoders of these export motion vectors; those of HEVC, VP8, VP9, AV1 and others do not.
CODECS = (
    "flv1",
    "h263",
    "h264",
    "mpeg1video",
    "mpeg2video",
    "mpeg4",
    "msmpeg4v1",
    "msmpeg4v2",
    "msmpeg4v3",
    "rv10",
    "rv20",
    "wmv1",
    "wmv2",
)
REENCODE = "python -m motionops prepare reencode --data DIR --output DIR"

# A bit a file, by its path, size and time of change. A forked process shares it: a DataLoader's workers, which begin
# anew with every epoch, warn of a file once and not once each.
_warned = mmap.mmap(-1, 1 << 20)
_first = mmap.mmap(-1, 8)  # the process that was the first to warn, shared likewise; 0: none was


class MotionVectorWarning(UserWarning):
    """Motion vectors of a file may be wrong; the text says why, and which command mends it."""


class CodedFrame(NamedTuple):
    """A frame and its blocks."""

    number: int
    records: bytes  # FFmpeg's AVMotionVector, one after another
    before: int  # frames to the reference that was shown before
    after: int  # and to the one that is shown after


class VectorDecoder(Decoder):
    """An open video file whose frames come with their motion vectors.

    Args:
        path: the file.
        wanted: the numbers of the frames whose vectors are wanted; by default all. Where there are none, any codec and
            any sizes will do.

    Raises:
        VideoError: as the decoder of frames; or the stream's codec has no vectors that FFmpeg exports.
    """

    def __init__(self, path: str | os.PathLike, wanted: Container[int] | None = None) -> None:
        super().__init__(path)
        self.wanted = wanted
        self.records_type: np.dtype | None = None  # of FFmpeg's records, known with the first ones
        self.picture: tuple[int, int] | None = None  # height and width of the pictures, upright
        self._doubts: dict[str, None] = {}

    def __enter__(self) -> VectorDecoder:
        super().__enter__()
        try:
            self.kinds = self.av.video.frame.PictureType
            if self.without_vectors:
                return self
            context = self.stream.codec_context
            codec = context.codec.canonical_name
            if codec not in CODECS:
                raise VideoError(
                    self.path,
                    f"is coded in {codec}, of which no motion vectors can be read (of H.264, MPEG-4 and MPEG-2 they "
                    f"can); {REENCODE} writes a copy that has them",
                )
            context.flags2 |= self.av.codec.context.Flags2.export_mvs
            from av.sidedata.sidedata import SideDataContainer

            self._side_data = SideDataContainer
            if codec == "h264" and (reference_frames(context.extradata) or 1) > 1:
                self._doubts["several reference pictures"] = None
        except BaseException:
            self.container.close()
            raise
        return self

    def frames(self) -> Iterator:
        """As the decoder of frames; VideoError where the picture size changes."""
        for _, frame in self._of_one_size(enumerate(super().frames())):
            yield frame

    def frames_from(self, keys: Sequence[KeyFrame]) -> Iterator[tuple[int, Any]]:
        """As the decoder of frames, and :meth:`frames`."""
        return self._of_one_size(super().frames_from(keys))

    def _of_one_size(self, frames: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        for number, frame in frames:
            size = self.size(frame)
            if self.picture is None:
                self.picture = size
            elif self.picture != size and not self.without_vectors:
                raise VideoError(
                    self.path,
                    f"changes its size at frame {number}, so its motion vectors have no common grid; {REENCODE} "
                    "writes a copy of one size",
                )
            yield number, frame

    def is_intra(self, frame) -> bool:
        """Whether it is an I-frame."""
        return frame.pict_type == self.kinds.I

    def with_vectors(self, frames: Iterable[tuple[int, Any]]) -> Iterator[CodedFrame]:
        """The blocks of frames and their numbers, from the first or a key frame on; of frames not wanted, none.

        B-frames wait for the frame after them.
        """
        waiting: list[tuple[int, bytes]] = []
        reference = None  # the last I- or P-frame
        for number, frame in frames:
            reference = number - 1 if reference is None else reference
            kind = frame.pict_type
            if kind in (self.kinds.B, self.kinds.BI) and not self.without_vectors:
                self._doubts["B-frames"] = None
                waiting.append((number, self._records(number, frame)))
                continue
            for earlier, records in waiting:
                yield CodedFrame(earlier, records, earlier - reference, number - earlier)
            waiting.clear()
            if kind == self.kinds.S:
                self._doubts["global motion"] = None
            yield CodedFrame(number, self._records(number, frame), number - reference, 1)
            reference = number
        for earlier, records in waiting:  # the stream ends without the frame that they lead to
            yield CodedFrame(earlier, records, earlier - reference, 1)

    def warn(self) -> None:
        """Warn of what was seen that makes vectors doubtful, once a file and process."""
        if self.without_vectors or not self._doubts:
            return
        if not _first_time(self.path):
            return
        what = " and ".join(self._doubts)
        text = (
            f"{self.path}: the stream has {what}, and does not say which picture a motion vector leads to: vectors may "
            f"be wrong; {REENCODE} writes a copy with P-frames and one reference, of which they are right"
        )
        warnings.warn(text, MotionVectorWarning, stacklevel=3)

    @property
    def without_vectors(self) -> bool:
        """Whether no frame's vectors are wanted."""
        return self.wanted is not None and not self.wanted

    def _records(self, number: int, frame) -> bytes:
        """A copy, since the frame's memory is the decoder's.

        ``frame.side_data`` would be kept by the frame, and keep it: pictures would then wait for the collector of
        cycles, a hundred at a time, and decoding MPEG-4 take a fifth longer.
        """
        if frame.pict_type == self.kinds.I or (self.wanted is not None and number not in self.wanted):
            return b""
        vectors = self._side_data(frame).get("MOTION_VECTORS")
        if vectors is None:
            return b""
        if self.records_type is None:
            self.records_type = vectors.to_ndarray().dtype
        return bytes(vectors)


def doubtful_files() -> int:
    """How many files were warned of so far, by this process and by those that were forked from it."""
    return int.from_bytes(_warned[:], "big").bit_count()


def forget_doubtful_files() -> None:
    """Begin to count anew, as a run does, before processes are forked."""
    _warned[:] = bytes(len(_warned))
    _first[:] = bytes(len(_first))


def warns_first() -> bool:
    """True where no process has asked before; of two that ask at the same moment in one of them at least."""
    own = os.getpid().to_bytes(len(_first), "big")
    if any(_first[:]):
        return False
    _first[:] = own
    return _first[:] == own


def _first_time(path: str) -> bool:
    """Whether this file as it is now was not asked for before."""
    size, changed = state(path)
    key = os.fsencode(real(path)) + f"|{size}|{changed}".encode()
    number = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") % (8 * len(_warned))
    place, bit = number // 8, 1 << number % 8
    before = _warned[place]
    _warned[place] = before | bit
    return not before & bit
