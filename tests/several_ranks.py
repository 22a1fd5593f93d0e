"""Work that several ranks do together, each in a process of its own that speaks gloo."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.multiprocessing as processes
from torch import distributed


def on_ranks(work: Callable[..., Any], folder: Path, *arguments: Any, size: int = 2) -> list[Any]:
    """What `work(rank, *arguments)`, a function of a module, returned on each of `size` ranks."""
    with processes.Manager() as manager:
        results = manager.dict()
        processes.spawn(_run, (work, str(folder / "store"), size, results, arguments), nprocs=size)
        return [results[rank] for rank in range(size)]


def _run(rank: int, work: Callable[..., Any], store: str, size: int, results: Any, arguments: tuple) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    try:
        results[rank] = work(rank, *arguments)
    finally:
        distributed.destroy_process_group()
