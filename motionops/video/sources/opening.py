"""Opening whatever holds a video, and telling whether it is still what it was."""

from __future__ import annotations

import io
import os
from typing import BinaryIO, NamedTuple

from motionops.video.sources import stores
from motionops.video.sources.addresses import in_tar, is_address, is_tar
from motionops.video.sources.faults import VideoError, fault_of
from motionops.video.sources.pieces import Pieces
from motionops.video.sources.tars import tar_index

AT_ONCE = 64 << 20  # bytes up to which a store's video is fetched in one piece, and pieces of a larger one
AHEAD = 1 << 18  # of a member of a tar on a disk


class State(NamedTuple):
    """What tells a video from what becomes of it later: its bytes, and a number that changes with it (of a file the
    time of its last change in nanoseconds)."""

    size: int
    changed: int


def state(path: str | os.PathLike) -> State:
    """The state of a video as it is now.

    Raises:
        OSError: as ``os.stat``; also for a member that its tar does not hold.
        VideoError: a store or a tar that cannot be read.
    """
    path = os.fspath(path)
    if both := in_tar(path):
        index = tar_index(both[0])
        return State(index.member(both[1])[1], index.changed)
    if is_address(path):
        return State(*stores.size_and_mark(path))
    status = os.stat(path)
    return State(status.st_size, status.st_mtime_ns)


def exists(path: str | os.PathLike) -> bool:
    """Whether there is such a video, or anything else of this name on the disk."""
    path = os.fspath(path)
    if in_tar(path) is None and not is_address(path):
        return os.path.exists(path)
    try:
        state(path)
    except (OSError, VideoError):
        return False
    return True


def opened(path: str | os.PathLike) -> BinaryIO | None:
    """The bytes of a video that is no file of its own; None of one that is, which FFmpeg opens itself.

    Raises:
        VideoError: it is not there, or cannot be read. So does what is opened, when it is read.
    """
    path = os.fspath(path)
    try:
        if both := in_tar(path):
            offset, size = tar_index(both[0]).member(both[1])
            _require_bytes(path, size)
            if is_address(path):
                return _of_a_store(both[0], offset, size, path)
            return io.BufferedReader(Pieces(size, _Member(both[0], offset, path)), AHEAD)
        if is_tar(path) and (is_address(path) or os.path.isfile(path)):
            raise VideoError(path, tar_index(path).damage or "could not be read when its members were listed")
        if is_address(path):
            size, _ = stores.size_and_mark(path)
            _require_bytes(path, size)
            return _of_a_store(path, 0, size, path)
    except FileNotFoundError:
        raise VideoError(path, "no such file") from None
    except OSError as error:
        raise fault_of(path, error) from error
    return None


def open_bytes(path: str | os.PathLike) -> BinaryIO:
    """The bytes of any video. OSError or VideoError where they cannot be had."""
    source = opened(path)
    return open(path, "rb") if source is None else source


def _require_bytes(path: str, size: int) -> None:
    if size == 0:
        raise VideoError(path, "is empty (0 bytes)")


def _of_a_store(address: str, offset: int, size: int, path: str) -> BinaryIO:
    def fetch(start: int, end: int) -> bytes:
        return stores.fetched(address, offset + start, offset + end, path) if end > start else b""

    return io.BytesIO(fetch(0, size)) if size <= AT_ONCE else io.BufferedReader(Pieces(size, fetch), AT_ONCE)


class _Member:
    """Reads of a part of a local tar, by an open file of its own."""

    def __init__(self, tar: str, offset: int, path: str) -> None:
        self.offset, self.path = offset, path
        self.file = open(tar, "rb", buffering=0)  # noqa: SIM115

    def __call__(self, start: int, end: int) -> bytes:
        try:
            data = os.pread(self.file.fileno(), end - start, self.offset + start)
        except OSError as error:
            raise fault_of(self.path, error) from error
        if not data and end > start:
            raise VideoError(self.path, "is truncated: its tar ends before it does")
        return data

    def close(self) -> None:
        self.file.close()
