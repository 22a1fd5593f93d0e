"""Tars and what lies where in them, so that any member is read without those before it.

A tar is gone through once. What was found is kept in the cache folder, a file a tar, written beside and renamed; it
holds as long as the tar's size and time of change (of an object of a store its size and etag) are the same. Members are
grouped as WebDataset writes them: those whose names are equal up to the first dot are one sample (``key.mp4``,
``key.cls``, ``key.json``).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import posixpath
import tarfile
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from motionops.files import replace_text
from motionops.video.cache import cache_folder, one_at_a_time
from motionops.video.sources import stores
from motionops.video.sources.addresses import absolute, is_address
from motionops.video.sources.faults import fault_of, tried_again
from motionops.video.sources.pieces import Pieces

VERSION = 1
BLOCK = 512
AHEAD = 1 << 16  # bytes of a store's tar that are asked for at once: a sample's small members lie together
LARGEST_LABEL = 1 << 20  # bytes of a json
IN_JSON = ("labels", "label", "cls", "class")  # names under which it says the class, the first that is there


class TarIndex:
    """The members of a tar.

    Attributes:
        size, changed: of the tar.
        damage: why it has no further members, None where it is whole.
    """

    def __init__(self, record: dict[str, Any]) -> None:
        self.size, self.changed, self.damage = record["size"], record["changed"], record["damage"]
        # Arrays, not objects: readers are forks, and would copy them page by page as they are looked at.
        members = sorted((os.fsencode(name), offset, size) for name, offset, size in record["members"])
        self._names = np.array([name for name, _, _ in members], dtype=np.bytes_)
        self._places = np.array([place for _, *place in members], dtype=np.int64).reshape(-1, 2)

    def member(self, name: str) -> tuple[int, int]:
        """Where a member's bytes begin, and how many they are. FileNotFoundError where there is none of this name."""
        wanted = os.fsencode(name)
        place = int(np.searchsorted(self._names, wanted)) if len(self._names) else 0
        if place == len(self._names) or self._names[place] != wanted:
            raise FileNotFoundError(name)
        offset, size = self._places[place].tolist()
        return offset, size


class Member(NamedTuple):
    """A member of a tar, and the classes that its sample says; none where it says none."""

    name: str
    labels: tuple[str, ...]


_known: dict[str, TarIndex] = {}


def tar_index(tar: str) -> TarIndex:
    """The members of a tar as it is now; a store is asked once a process.

    Raises:
        OSError: no such tar, or one that cannot be read.
        VideoError: the store fails.
    """
    known = _known.get(tar)
    if known is None or (not is_address(tar) and (known.size, known.changed) != _state(tar)):
        known = _known[tar] = TarIndex(_record(tar))
    return known


@tried_again
def members_of(tar: str) -> tuple[list[Member], str | None]:
    """The members of a tar by name, and why there are no further ones. Raises as :func:`tar_index`."""
    record = _record(tar)
    _known[tar] = TarIndex(record)
    labels = record["labels"]
    names = sorted(name for name, _, _ in record["members"])
    return [Member(name, tuple(labels.get(_sample(name)[0], ()))) for name in names], record["damage"]


def _record(tar: str) -> dict[str, Any]:
    """What is known of a tar: from the cache, else from the tar."""
    state = _state(tar)
    name = hashlib.sha256(os.fsencode(absolute(tar))).hexdigest()[:16]
    file = cache_folder() / "tars" / f"{name}.json"
    with one_at_a_time(file.with_suffix(".lock")):  # of all readers of this machine the first goes through it
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            record, check = json.loads(file.read_text(encoding="utf-8"))
            said = (record["version"], record["tar"], record["size"], record["changed"])
            if check == _check(record) and said == (VERSION, absolute(tar), *state):
                return record
        record = {"version": VERSION, "tar": absolute(tar), "size": state[0], "changed": state[1]}
        with _open(tar, state[0]) as held:
            record |= _gone_through(held, state[0])
        with contextlib.suppress(OSError):  # an unwritable cache costs time in the next process, nothing else
            replace_text(file, json.dumps([record, _check(record)]))
        return record


def _check(record: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(record).encode())


def _state(tar: str) -> tuple[int, int]:
    if is_address(tar):
        return stores.size_and_mark(tar)
    try:
        status = os.stat(tar)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise fault_of(tar, error) from error
    return status.st_size, status.st_mtime_ns


def _open(tar: str, size: int) -> BinaryIO:
    if not is_address(tar):
        return open(tar, "rb")
    return io.BufferedReader(Pieces(size, lambda start, end: _fetched(tar, start, end)), AHEAD)


def _fetched(tar: str, start: int, end: int) -> bytes:
    return stores.fetched(tar, start, end, tar) if end > start else b""


def _gone_through(held: BinaryIO, size: int) -> dict[str, Any]:
    """Members, labels and damage of an open tar."""
    members: dict[str, tuple[int, int]] = {}
    labels: dict[str, Sequence[str]] = {}
    damage = None
    count = 0
    try:
        with tarfile.open(fileobj=held, mode="r:") as archive:
            while (found := archive.next()) is not None:
                archive.members.clear()  # it would keep them all
                if not found.isreg() or found.sparse is not None:
                    continue
                if found.offset_data + found.size > size:
                    damage = f"is truncated within {found.name}, after {count} members"
                    break
                count += 1
                name = posixpath.normpath(found.name).lstrip("/")
                if any(part.startswith(".") for part in name.split("/")):
                    continue  # hidden, as in folders
                members[name] = found.offset_data, found.size
                key, kind = _sample(name)
                if kind in ("cls", "json") and found.size <= LARGEST_LABEL:
                    held.seek(found.offset_data)
                    said = _labels(held.read(found.size), kind)
                    if said and not (kind == "json" and key in labels):
                        labels[key] = said
            else:
                held.seek(archive.offset)
                end = held.read(BLOCK)
                if end != bytes(BLOCK):
                    what = "is damaged at" if len(end) == BLOCK else "is truncated at"
                    damage = f"{what} byte {archive.offset}, after {count} members"
    except tarfile.TarError as error:
        damage = f"is damaged after {count} members ({error})" if count else f"is not a tar ({error})"
    return {
        "members": [[name, *place] for name, place in members.items()],
        "labels": labels,
        "damage": damage,
    }


def _sample(name: str) -> tuple[str, str]:
    """The sample that a member belongs to, and what it is of it."""
    folder, file = posixpath.split(name)
    key, _, kind = file.partition(".")
    return posixpath.join(folder, key), kind.lower()


def _labels(data: bytes, kind: str) -> list[str]:
    """The classes that a ``.cls`` (its text) or a ``.json`` says."""
    text = data.decode(errors="replace").strip()
    if kind == "cls":
        return [text] if text else []
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return []
    name = next((name for name in IN_JSON if name in held), None) if isinstance(held, dict) else None
    if name is None:
        return []
    said = held[name] if isinstance(held[name], list) else [held[name]]
    return [str(each) for each in said if isinstance(each, (str, int)) and not isinstance(each, bool)]
