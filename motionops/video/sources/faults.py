"""What can be wrong with a video, and when it is read again."""

from __future__ import annotations

import errno
import functools
import os
import time
from collections.abc import Callable
from typing import TypeVar

from motionops.errors import UserError
from motionops.video.sources.addresses import shown

OF_THE_DISK = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)  # passing faults of disks and of networks
WAITS = (0.1, 0.4, 1.6)  # seconds before another try

Result = TypeVar("Result")


class VideoError(UserError):
    """A video that cannot be used; ``path`` and ``reason`` say which and why."""

    def __init__(self, path: str | os.PathLike, reason: str) -> None:
        super().__init__(path, reason)  # both, so that it survives the way back from another process
        self.path = os.fspath(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{shown(self.path)}: {self.reason}"


class ReadError(VideoError):
    """The disk or the store did not give what it holds: nothing is said of the video."""


class Damaged(VideoError):
    """What was read is no whole video; where the disk failed unseen, another try reads something else."""


def fault_of(path: str | os.PathLike, error: OSError) -> VideoError:
    """What an error of the system is called."""
    if error.errno in OF_THE_DISK:
        return ReadError(path, f"read error ({errno.errorcode[error.errno]}: {os.strerror(error.errno)})")
    return VideoError(path, f"cannot be read ({error.strerror or error})")


class Tries:
    """The tries at reading one video."""

    def __init__(self) -> None:
        self._waits = iter(WAITS)
        self._before: str | None = None

    def again(self, error: VideoError) -> None:
        """Return, perhaps after a while, where another try may help; raise the error where it cannot."""
        if isinstance(error, Damaged) and error.reason != self._before:
            self._before = error.reason
            if next(self._waits, None) is not None:
                return
        elif isinstance(error, ReadError):
            wait = next(self._waits, None)
            if wait is not None:
                time.sleep(wait)
                return
        raise error


def tried_again(read: Callable[..., Result]) -> Callable[..., Result]:
    """A function that reads a video, called again where the disk or the store failed."""

    @functools.wraps(read)
    def reading(*arguments, **named) -> Result:
        tries = Tries()
        while True:
            try:
                return read(*arguments, **named)
            except VideoError as error:
                tries.again(error)

    return reading
