"""What the first process of a run finds out, told to the others before there is a process group."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from torch import distributed

from motionops.commandline import user_message
from motionops.errors import UserError
from motionops.files import written_beside
from motionops.ranks import environment_rank, slurm_tasks

TOLD_IN = "MOTIONOPS_VIDEOS"  # names the file for processes that the first one starts itself
FOUND = "MOTIONOPS_FOUND"  # and, as a JSON list, what it found on its machine
WAIT = 0.2  # seconds between two looks for what is not there yet
JOINING = timedelta(minutes=30)
PIECE = 1 << 20  # bytes of one entry of the store
NONE = "none"  # a file that is not there

Found = TypeVar("Found")

_calls = itertools.count()  # the same number in all processes
_stores: list[Any] = []  # kept: the first process's store serves the process group, too
_found: list[str] = []  # by this run on this machine


class Lines:
    """A text, line by line, that is kept compressed: that of a large set is as large as the set."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = list(pieces)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Lines:
        packer = zlib.compressobj()
        pieces = [piece for text in texts if (piece := packer.compress(text.encode(errors="surrogateescape")))]
        return cls([*pieces, packer.flush()])

    def __iter__(self) -> Iterator[str]:
        unpacker, rest = zlib.decompressobj(), b""
        for piece in self.pieces:
            *lines, rest = (rest + unpacker.decompress(piece)).split(b"\n")
            for line in lines:
                yield line.decode(errors="surrogateescape") + "\n"
        if rest:
            yield rest.decode(errors="surrogateescape")

    def text(self) -> str:
        return "".join(self)


def found_by_the_first(find: Callable[[], Found], tell: Callable[[Found], Iterable[str]]) -> Found | Iterable[str]:
    """What `find` returns in the first process; the others, however long that takes, wait and get the lines of its
    text, which `tell` gives in parts.

    Raises:
        UserError: that of the first process, in all of them; or it is gone.
    """
    _found.clear()
    if _processes() == 1:
        if environment_rank() and TOLD_IN in os.environ:
            return _lines_of(Path(os.environ[TOLD_IN]))
        return find()
    store = _store()
    if environment_rank() == 0:
        with _faults_told(store):
            found = find()
        _tell(store, "found", tell(found))
        return found
    return _hear(store)


def found_on_each_machine(find: Callable[[], str]) -> str:
    """What `find` returns in the first process of a machine, in all processes of that machine, and that it was found on
    all machines. All processes must call it, after :func:`found_by_the_first`; without that each is on its own.

    Raises:
        UserError: that of the first process of a machine, in all processes of all machines.
    """
    if _processes() == 1:
        if environment_rank() and FOUND in os.environ:
            _found.append(json.loads(os.environ[FOUND])[len(_found)])
        else:
            _found.append(find())
        return _found[-1]
    if not _stores:
        return find()
    here, machines, first = _machine()
    call = next(_calls)
    stores = [_of_this_attempt(f"machine {machine} {call}") for machine in range(machines)]
    if first:
        with _faults_told(stores[here]):
            found = find()
        _tell(stores[here], "found", [found])
    return [_hear(store).text() for store in stores][here]


@contextlib.contextmanager
def _faults_told(store: Any) -> Iterator[None]:
    """Tell the others of an error that is raised inside."""
    try:
        yield
    except Exception as error:
        _tell(store, "error", [user_message(error) or f"{type(error).__name__}: {error}"])
        raise


def has_what_the_first_has(file: Path, wanted: bool) -> bool:
    """Whether the first process has a file; where others, on other machines, have none or another, they get its own.

    All processes must call it, after :func:`found_by_the_first`. `wanted`: whether this one asks for the file; the
    first one is always told True, and looks for itself.
    """
    if _processes() == 1:
        return True
    store = _of_this_attempt(f"file {next(_calls)}")
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
    """Name the file, and what was found on this machine, to processes that this one starts while the context lasts; a
    later run's must not go by it."""
    told = {TOLD_IN: os.fspath(file.absolute()), FOUND: json.dumps(_found)}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def _lines_of(file: Path) -> Iterator[str]:
    with open(file, encoding="utf-8") as lines:
        yield from lines


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


def _of_this_attempt(name: str) -> Any:
    """A part of the store. torchrun's own outlives an attempt; only there attempts are told apart, since each machine
    counts its own: one that came back is at its first."""
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if shared else "0"
    return distributed.PrefixStore(f"motionops {attempt} {name}", _stores[-1])


def _machine() -> tuple[int, int, bool]:
    """The number of this process's machine, that of machines, and whether the process is its machine's first."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        machines = int(os.environ.get("GROUP_WORLD_SIZE", _processes() // int(os.environ["LOCAL_WORLD_SIZE"])))
        return int(os.environ.get("GROUP_RANK", 0)), machines, int(os.environ["LOCAL_RANK"]) == 0
    machines = int(os.environ.get("SLURM_NNODES", 1))
    return int(os.environ.get("SLURM_NODEID", 0)), machines, int(os.environ["SLURM_LOCALID"]) == 0


def _tell(store: Any, kind: str, texts: Iterable[str]) -> None:
    data = b"".join(Lines.of(texts).pieces)
    pieces = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
    for number, piece in enumerate(pieces):
        store.set(f"piece {number}", piece)
    store.set("told", f"{kind} {len(pieces)}")


def _hear(store: Any) -> Lines:
    """What was told. UserError: it was one."""
    try:
        while not store.check(["told"]):
            time.sleep(WAIT)
        kind, count = store.get("told").decode().split()
        told = Lines(store.get(f"piece {number}") for number in range(int(count)))
    except (RuntimeError, OSError) as error:
        raise UserError(f"the first process ended before it said what it found ({error})") from error
    if kind == "error":
        raise UserError(told.text())
    return told
