"""How videos are named: paths of a disk, addresses of a store (``s3://bucket/video.mp4``), members of either's tars.

A member's name follows that of its tar as a file's follows its folder: ``shards/000.tar/key.mp4``. So all that is made
of paths (folder and name, a list's lines, the place below the data) is made of these too.
"""

from __future__ import annotations

import os
import re

TAR = ".tar"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_OF_A_PATH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?=[^/])")  # what pathlib makes of an address


def is_address(path: str) -> bool:
    """Whether a name is one of a store and not of a disk."""
    return _ADDRESS.match(path) is not None


def written(path: str | os.PathLike) -> str:
    """A path or an address as it was written: pathlib takes the two slashes of an address for one."""
    text = os.fspath(path)
    if isinstance(path, str) or not _OF_A_PATH.match(text) or os.path.exists(text):
        return text
    return _OF_A_PATH.sub(r"\1://", text, count=1)


def absolute(path: str | os.PathLike) -> str:
    """As ``os.path.abspath``; an address is one already."""
    text = os.fspath(path)
    return text if is_address(text) else os.path.abspath(text)


def real(path: str | os.PathLike) -> str:
    """As ``os.path.realpath``; an address is one already."""
    text = os.fspath(path)
    return text if is_address(text) else os.path.realpath(text)


def in_tar(path: str) -> tuple[str, str] | None:
    """The tar and the member that a name stands for; None where it stands for no member."""
    for match in re.finditer(r"\.tar/", path, re.IGNORECASE):
        tar, member = path[: match.end() - 1], path[match.end() :]
        if is_address(path) or os.path.isfile(tar):
            return tar, member
    return None


def is_tar(path: str) -> bool:
    """Whether a name is that of a tar that is not compressed: its members can be read from where they lie."""
    return path.lower().endswith(TAR)


def shown(path: str) -> str:
    """A name in messages: a member behind its tar."""
    both = in_tar(path) if TAR in path.lower() else None
    return path if both is None else f"{both[0]}: {both[1]}"
