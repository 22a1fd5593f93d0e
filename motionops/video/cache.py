"""Where generated videos and what is known of others are kept between runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from motionops.commandline import writable_folder


def cache_folder() -> Path:
    """``$MOTIONOPS_CACHE``, or else ``$XDG_CACHE_HOME/motionops``, or else ``~/.cache/motionops``."""
    ours = os.environ.get("MOTIONOPS_CACHE")
    if ours:
        return Path(ours)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "motionops"


def in_cache_folder(folder: Path) -> Path:
    """A folder below the cache's, made; where it cannot be, a UserError names the variable that moves the cache."""
    return writable_folder(folder, flag="MOTIONOPS_CACHE")


@contextlib.contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Of this machine's processes one is inside at a time: what the first keeps in the cache, the others find there.

    ``file`` is made and locked; the lock is freed when the process ends, however it ends. Where that cannot be, nothing
    is locked, and work is done twice at worst: whatever is kept is appended or renamed into place.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(ImportError, OSError):  # no such lock on this system, an unwritable cache
            import fcntl

            file.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(held.enter_context(open(file, "w")), fcntl.LOCK_EX)
        yield
