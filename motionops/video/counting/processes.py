"""A question that is asked of many files by several processes, some of which a file may end."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, TypeVar

from motionops.video.decoder import VideoError

Answer = TypeVar("Answer")
FEW = 32  # files a process: for fewer none is started


class _Share(NamedTuple):
    """A process, where it answers, and the places of the files that it is still asked."""

    process: multiprocessing.process.BaseProcess
    answers: Connection
    places: deque[int]


def asked(
    paths: Sequence[str], ask: Callable[[str], Answer], workers: int
) -> Iterator[tuple[int, Answer | VideoError]]:
    """The place of each file, and what was found or why it cannot be used; as they come.

    Counting holds the interpreter's lock for a tenth of its time or more, so threads do not scale. Where a decoder's
    fault ends a process, its file is the one that cannot be used.
    """
    if min(workers, len(paths) // FEW) < 2 or "fork" not in multiprocessing.get_all_start_methods():
        with contextlib.closing(_in_threads(paths, ask, workers)) as answers:
            yield from answers
        return
    workers = min(workers, len(paths) // FEW)
    shares: dict[Connection, _Share] = {}
    try:
        for first in range(workers):
            _start(shares, paths, deque(range(first, len(paths), workers)), ask)
        while shares:
            for ready in wait(list(shares)):
                share = shares[ready]
                try:
                    answer = ready.recv()
                except EOFError:
                    share.process.join()
                    del shares[ready]
                    if share.places:
                        place = share.places.popleft()
                        code = share.process.exitcode
                        yield place, VideoError(paths[place], f"ends the process that reads it (exit code {code})")
                        _start(shares, paths, share.places, ask)
                    continue
                yield share.places.popleft(), answer
    finally:
        for share in shares.values():
            share.process.kill()
            share.process.join()


def _in_threads(paths: Sequence[str], ask: Callable, workers: int) -> Iterator[tuple[int, Any]]:
    pool = ThreadPoolExecutor(workers)
    try:
        yield from enumerate(pool.map(lambda path: _answer(ask, path), paths))
    finally:
        pool.shutdown(cancel_futures=True)


def _start(shares: dict, paths: Sequence[str], places: deque[int], ask: Callable) -> None:
    """Another process, for these files."""
    if not places:
        return
    answers, ours = multiprocessing.Pipe(duplex=False)
    others = [*shares, answers]  # a process that held them would not notice the end of this one
    process = multiprocessing.get_context("fork").Process(
        target=_work, args=(ours, others, paths, places, ask), daemon=True
    )
    process.start()
    ours.close()
    shares[answers] = _Share(process, answers, places)


def _work(
    ours: Connection, others: list[Connection], paths: Sequence[str], places: Iterable[int], ask: Callable
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process's to answer
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    gc.freeze()  # what waits for threads of the first process must not be freed here
    for connection in others:
        connection.close()
    with contextlib.suppress(BrokenPipeError):
        for place in places:
            ours.send(_answer(ask, paths[place]))


def _answer(ask: Callable[[str], Answer], path: str) -> Answer | VideoError:
    try:
        return ask(path)
    except VideoError as error:
        return error
