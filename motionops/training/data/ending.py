"""The end of the readers, however a run ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


def end_workers() -> None:
    """Kill what an exception left of the readers: they ignore SIGTERM, and Python would wait for them for ever."""
    children = multiprocessing.active_children()
    with deaths_unanswered():
        for child in children:
            child.kill()
        for child in children:
            child.join()


@contextlib.contextmanager
def deaths_unanswered() -> Iterator[None]:
    """A reader's death raises no error: DataLoader's handler would raise between one kill and the next."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs handlers in the main thread only, and lets no other change them
        return
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)


def minding_no_lost_peers(former: Callable[..., Any]) -> Callable[..., Any]:
    """An excepthook that says nothing of what a thread could not send or take, because the other side has ended.

    A signal ends a run between one byte and the next: the threads that hand batches from readers to the training would
    print tracebacks, on either side.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if threading.current_thread() is threading.main_thread() or not issubclass(kind, (ConnectionError, EOFError)):
            former(kind, error, trace)

    return hook
