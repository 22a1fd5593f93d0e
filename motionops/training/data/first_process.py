"""What the first process of a run finds out, told to the others before there is a process group."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from torch import distributed

from motionops.commandline import user_message
from motionops.errors import UserError
from motionops.files import written_beside
from motionops.ranks import environment_rank, slurm_tasks

TOLD_IN = "MOTIONOPS_VIDEOS"  # names the file for processes that the first one starts itself
WAIT = 0.2  # seconds between two looks for what is not there yet
JOINING = timedelta(minutes=30)
PIECE = 1 << 20  # bytes of one entry of the store
NONE = "none"  # a file that is not there

Found = TypeVar("Found")

_calls = itertools.count()  # the same number in all processes
_stores: list[Any] = []  # kept: the first process's store serves the process group, too


def found_by_the_first(find: Callable[[], Found], tell: Callable[[Found], str]) -> Found | str:
    """What `find` returns in the first process; the others, however long that takes, wait and get its text by `tell`.

    Raises:
        UserError: that of the first process, in all of them; or it is gone.
    """
    if _processes() == 1:
        if environment_rank() and TOLD_IN in os.environ:
            return Path(os.environ[TOLD_IN]).read_text(encoding="utf-8")
        return find()
    store = _store()
    if environment_rank() == 0:
        try:
            found = find()
        except Exception as error:
            _tell(store, "error", user_message(error) or f"{type(error).__name__}: {error}")
            raise
        _tell(store, "found", tell(found))
        return found
    kind, text = _hear(store)
    if kind == "error":
        raise UserError(text)
    return text


def has_what_the_first_has(file: Path, wanted: bool) -> bool:
    """Whether the first process has a file; where others, on other machines, have none or another, they get its own.

    All processes must call it, after :func:`found_by_the_first`. `wanted`: whether this one asks for the file; the
    first one is always told True, and looks for itself.
    """
    if _processes() == 1:
        return True
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # a store may outlive it
    store = distributed.PrefixStore(f"motionops file {attempt} {next(_calls)}", _stores[-1])
    if environment_rank() == 0:
        _hand_out(store, file, wanted and file.exists())
        return True
    mark = store.get("mark").decode()
    there = wanted and mark != NONE
    lacking = there and not (file.exists() and _mark(file) == mark)
    store.set(f"lacking {environment_rank()}", str(lacking))
    if lacking:
        with written_beside(file) as partial, open(partial, "wb") as copy:
            for number in range(int(store.get("pieces"))):
                copy.write(store.get(f"piece {number}"))
        store.set(f"got {environment_rank()}", "")
    return there


def _hand_out(store: Any, file: Path, there: bool) -> None:
    """The first process's part: say which file it is, give it to those that lack it, and empty the store."""
    store.set("mark", _mark(file) if there else NONE)
    others = range(1, _processes())
    lacking = [rank for rank in others if store.get(f"lacking {rank}").decode() == str(True)]
    if not lacking:
        return
    pieces = 0
    for pieces, data in enumerate(_read(file), start=1):
        store.set(f"piece {pieces - 1}", data)
    store.set("pieces", str(pieces))
    for rank in lacking:
        store.get(f"got {rank}")
    for number in range(pieces):
        store.delete_key(f"piece {number}")


def _mark(file: Path) -> str:
    check = 0
    for data in _read(file):
        check = zlib.crc32(data, check)
    return f"{file.stat().st_size} {check:08x}"


def _read(file: Path) -> Iterator[bytes]:
    with open(file, "rb") as held:
        while data := held.read(PIECE):
            yield data


@contextlib.contextmanager
def telling_children(file: Path) -> Iterator[None]:
    """Name the file to processes that this one starts while the context lasts; a later run's must not go by it."""
    before = os.environ.get(TOLD_IN)
    os.environ[TOLD_IN] = os.fspath(file.absolute())
    try:
        yield
    finally:
        del os.environ[TOLD_IN]
        if before is not None:
            os.environ[TOLD_IN] = before


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
