"""Bytes that something else reads piece by piece, as a file."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable


class Pieces(io.RawIOBase):
    """A file of ``size`` bytes, which ``read(start, end)`` gives: at least one of those that are asked for."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        self.size, self.bytes_of, self.place = size, read, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        if place < 0:
            raise OSError(errno.EINVAL, "a place before the beginning")
        self.place = place
        return place

    def readinto(self, buffer) -> int:
        data = self.bytes_of(self.place, max(min(self.place + len(buffer), self.size), self.place))
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed and hasattr(self.bytes_of, "close"):
            self.bytes_of.close()
        super().close()
