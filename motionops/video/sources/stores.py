"""Objects of a store (S3, GCS, HTTP, ...) through fsspec: their bytes, their states, their names.

What a store does is no fault of a video: whatever it answers but "there is no such object" and "you may not" is a
:class:`ReadError`, and tried again. A store that does not answer within SECONDS is one of these.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from motionops.errors import UserError
from motionops.video.sources.faults import ReadError, VideoError, tried_again

SECONDS = 60.0  # for one answer
# By what stores tell one state of an object from another, the first that there is.
MARKS = ("ETag", "etag", "md5Hash", "md5", "LastModified", "last_modified", "mtime", "created", "Last-Modified")


def size_and_mark(address: str) -> tuple[int, int]:
    """Bytes of an object, and a number that changes when it does.

    Raises:
        FileNotFoundError: there is none.
        VideoError: it may not be read, or the store fails.
    """
    return _size_and_mark(address, _ask(address, address, "info"))


def _size_and_mark(address: str, told: dict) -> tuple[int, int]:
    size = told.get("size")
    if size is None:
        raise VideoError(address, "its store does not say how large it is")
    mark = next((str(told[name]) for name in MARKS if told.get(name)), "")
    return int(size), int.from_bytes(hashlib.blake2b(mark.encode(), digest_size=7).digest(), "big")


def fetched(address: str, start: int, end: int, path: str) -> bytes:
    """Bytes start to end of an object, read for the video ``path``, which errors name."""
    data = _ask(address, path, "cat_file", start=start, end=end)
    if len(data) != end - start:
        raise ReadError(path, f"could not be fetched (its store gave {len(data)} of {end - start} bytes)")
    return data


@tried_again
def names_in(address: str) -> list[str]:
    """The objects below an address, or those that a pattern matches, sorted."""
    pattern = any(sign in address for sign in "*?[")
    try:
        found = _ask(address, address, "glob" if pattern else "find")
    except FileNotFoundError:
        return []
    system, _ = _system(address)
    return sorted(system.unstrip_protocol(name) for name in found)


def as_listed(address: str) -> str:
    """An address as :func:`names_in` writes it."""
    system, place = _system(address)
    return system.unstrip_protocol(place)


def _ask(address: str, path: str, what: str, **named: Any) -> Any:
    system, place = _system(address)
    if getattr(system, "async_impl", False):
        named["timeout"] = SECONDS
    try:
        return getattr(system, what)(place, **named)
    except (FileNotFoundError, VideoError):
        raise
    except PermissionError as error:
        raise VideoError(path, f"cannot be read ({_words(error)})") from error
    except Exception as error:  # each store has its own
        raise ReadError(path, f"could not be fetched ({_words(error)})") from error


def _system(address: str) -> tuple[Any, str]:
    """fsspec's file system for an address, this process's own (fsspec keeps them), and the place in it.

    Raises:
        UserError: fsspec or what it needs for this kind of store is not installed; there is no such kind.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise UserError(f"{address}: stores are read with fsspec: pip install 'motionops[stores]'") from None
    try:
        return url_to_fs(address)
    except ImportError as error:
        raise UserError(f"{address}: {error}") from error
    except ValueError as error:  # a protocol that fsspec does not know
        raise UserError(f"{address}: {error}") from error


def _words(error: Exception) -> str:
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return f"no answer within {SECONDS:g} s"
    status = getattr(error, "status", None)
    said = " ".join(str(getattr(error, "message", None) or error).split())
    return ", ".join(str(word) for word in (status, said or type(error).__name__) if word)
