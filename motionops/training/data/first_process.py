"""What the first process of a run finds out, told to the others before there is a process group."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import distributed

from motionops.commandline import user_message
from motionops.errors import UserError
from motionops.ranks import environment_rank, slurm_tasks

TOLD_IN = "MOTIONOPS_VIDEOS"  # names the file for processes that the first one starts itself
WAIT = 0.2  # seconds between two looks for what is not there yet
JOINING = timedelta(minutes=30)
PIECE = 1 << 20  # bytes of one entry of the store

_stores: list[Any] = []  # kept: the first process's store serves the process group, too


def found_by_the_first(find: Callable[[], str]) -> str:
    """What `find` returns in the first process; the others, however long that takes, wait for it and get it.

    Raises:
        UserError: that of the first process, in all of them; or it is gone.
    """
    if environment_rank() and TOLD_IN in os.environ:
        return Path(os.environ[TOLD_IN]).read_text(encoding="utf-8")
    if _processes() == 1:
        return find()
    store = _store()
    if environment_rank() == 0:
        try:
            text = find()
        except Exception as error:
            _tell(store, "error", user_message(error) or f"{type(error).__name__}: {error}")
            raise
        _tell(store, "found", text)
        return text
    kind, text = _hear(store)
    if kind == "error":
        raise UserError(text)
    return text


def tell_children(file: Path) -> None:
    """Name the file to processes that this one starts."""
    os.environ[TOLD_IN] = os.fspath(file.absolute())


def _processes() -> int:
    """Processes that torchrun or SLURM started; 1 for a run that starts its own."""
    if "LOCAL_WORLD_SIZE" in os.environ and "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return slurm_tasks()


def _store() -> Any:
    """The store in which the processes meet: torchrun's, or one of the first process at the group's own address."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        address = "env://"
    else:
        from motionops.training.lightning import SLURMEnvironment

        tasks = SLURMEnvironment()
        place = f"{tasks.main_address}:{tasks.main_port}"
        address = f"tcp://{place}?rank={environment_rank()}&world_size={_processes()}"
    store, _, _ = next(distributed.rendezvous(address, timeout=JOINING))
    _stores.append(store)
    return distributed.PrefixStore("motionops videos", store)


def _tell(store: Any, kind: str, text: str) -> None:
    data = zlib.compress(text.encode(errors="surrogateescape"))
    pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
    for number, piece in enumerate(pieces):
        store.set(f"piece {number}", piece)
    store.set("told", f"{kind} {len(pieces)}")


def _hear(store: Any) -> tuple[str, str]:
    try:
        while not store.check(["told"]):
            time.sleep(WAIT)
        kind, count = store.get("told").decode().split()
        data = b"".join(store.get(f"piece {number}") for number in range(int(count)))
    except (RuntimeError, OSError) as error:
        raise UserError(f"the first process ended before it said which videos there are ({error})") from error
    return kind, zlib.decompress(data).decode(errors="surrogateescape")
