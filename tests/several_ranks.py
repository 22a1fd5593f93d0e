"""Work that several ranks do together, each in a process of its own that speaks gloo.

The processes are forks of one that has imported what they need and has done nothing else: of its own, each would import
for ten seconds.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import torch.multiprocessing as processes
from torch import distributed

IMPORTED_ONCE = ["motionops.evaluation.end_of_run", "motionops.training.run", "tests.several_ranks"]


def ready_to_fork() -> BaseContext:
    """Where processes and what they share come from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED_ONCE)
    return context


def in_processes(work: Callable[..., Any], *arguments: Any, size: int = 2) -> None:
    """Call `work(rank, *arguments)`, a function of a module, in each of `size` processes; their environment is ours."""
    given = (dict(os.environ), work, arguments)
    processes.start_processes(_in_environment, given, nprocs=size, start_method=ready_to_fork().get_start_method())


def on_ranks(work: Callable[..., Any], folder: Path, *arguments: Any, size: int = 2) -> list[Any]:
    """What `work(rank, *arguments)`, a function of a module, returned on each of `size` ranks."""
    with processes.Manager() as manager:
        results = manager.dict()
        in_processes(_run, work, str(folder / "store"), size, results, arguments, size=size)
        return [results[rank] for rank in range(size)]


def as_torchrun_does(work: Callable[..., Any], *arguments: Any, size: int = 2) -> None:
    """Call `work(*arguments)` in each of `size` processes that find in their environment what torchrun tells them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    in_processes(_told_by_torchrun, size, port, work, arguments, size=size)


def _in_environment(rank: int, environment: dict[str, str], work: Callable[..., Any], arguments: tuple) -> None:
    os.environ.clear()  # it is what it was when the first of all these processes was started
    os.environ.update(environment)
    work(rank, *arguments)


def _run(rank: int, work: Callable[..., Any], store: str, size: int, results: Any, arguments: tuple) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    try:
        results[rank] = work(rank, *arguments)
    finally:
        distributed.destroy_process_group()


def _told_by_torchrun(rank: int, size: int, port: int, work: Callable[..., Any], arguments: tuple) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), LOCAL_WORLD_SIZE=str(size))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    work(*arguments)
