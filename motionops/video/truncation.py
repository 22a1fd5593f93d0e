"""Is the end of a video file missing?

A decoder that meets the end of a cut file often just stops, and frame counts in headers lie for whole files too. But
three families of containers state their size in bytes; a file shorter than it states was cut.
"""

from __future__ import annotations

import contextlib
import os
from typing import BinaryIO

CUT = "is truncated ({size} of at least {stated} bytes)"

BOXES = frozenset(b"ftyp styp moov moof mfra mdat free skip wide pnot sidx ssix prft pdin emsg meta udta uuid".split())
RIFF_SLACK = 16  # bytes: some writers count the chunk's own header, or a byte of padding, once more
RIFF_OPEN = 0x7FFF_FFFF  # from here on a RIFF size is what writers put who do not know it


def missing_end(video: str | os.PathLike | BinaryIO) -> str | None:
    """The reason why the file, by its path or open, cannot be whole, or None where nothing says so.

    Knows AVI (RIFF chunks), MP4 and MOV (boxes), Matroska and WebM (the segment). A size that the writer left open
    (streamed files) states nothing.
    """
    try:
        with contextlib.nullcontext(video) if hasattr(video, "read") else open(video, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            start = file.read(12)
            file.seek(0)
            if start[:4] in (b"RIFF", b"RIFX"):
                stated = _riff_end(file, size, "little" if start[:4] == b"RIFF" else "big")
            elif start[4:8] in BOXES:
                stated = _boxes_end(file, size)
            elif start[:4] == b"\x1a\x45\xdf\xa3":
                stated = _matroska_end(file)
            else:
                return None
    except OSError:
        return None
    return CUT.format(size=size, stated=stated) if stated > size else None


def _riff_end(file: BinaryIO, size: int, order: str) -> int:
    """End of the last RIFF chunk that begins inside the file (large AVI files have several)."""
    end = 0
    while end + 8 <= size:
        file.seek(end)
        header = file.read(8)
        if header[:4] not in (b"RIFF", b"RIFX"):
            break  # what follows the chunks is no part of them
        length = int.from_bytes(header[4:], order)
        if length >= RIFF_OPEN:
            return 0
        end += 8 + length
    return end if end > size + RIFF_SLACK else 0


def _boxes_end(file: BinaryIO, size: int) -> int:
    """End of the last top-level box that begins inside the file."""
    end = 0
    while end + 8 <= size:
        file.seek(end)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1 and len(header) == 16:
            length = int.from_bytes(header[8:], "big")
        if length < 8 or kind not in BOXES:
            break  # 0 means "to the end of the file"; the rest is nothing that a writer of videos leaves open
        end += length
    return end


def _matroska_end(file: BinaryIO) -> int:
    """End of the segment, 0 where its size is left open."""
    file.seek(4)
    header_size = _variable_size(file)
    if header_size is None:
        return 0
    file.seek(header_size, os.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    segment_size = _variable_size(file)
    return 0 if segment_size is None else file.tell() + segment_size


def _variable_size(file: BinaryIO) -> int | None:
    """An EBML size: the leading zeros of its first byte count the bytes that follow; all ones means unknown."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    following = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & ((1 << (7 - following)) - 1)]) + file.read(following), "big")
    return None if value == (1 << (7 * (following + 1))) - 1 else value
