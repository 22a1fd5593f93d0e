"""Batches of reader processes lie in shared memory, of which containers have little (Docker: 64 MiB)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils.data import get_worker_info

from motionops.errors import UserError
from motionops.nested import tensors_in

FOLDER = "/dev/shm"
AHEAD = 2  # batches that DataLoader has each reader prepare
REMEDY = "fewer --workers need less (0: none), a container gets more by docker run --shm-size 4g"


def shared(tensor: Tensor) -> Tensor:
    """The tensor, in a reader moved to shared memory: now, where an error still finds its way to the training.

    What is not there yet is copied by the thread that hands batches over, whose errors nobody hears of: without room
    for a batch the run would wait for ever.
    """
    return tensor if get_worker_info() is None else tensor.share_memory_()


@contextmanager
def room_for_a_batch() -> Iterator[None]:
    """UserError instead of torch's RuntimeError where shared memory has no room for what is made inside."""
    try:
        yield
    except RuntimeError as error:
        if "</torch_" not in str(error):  # as torch names the files of shared memory
            raise
        raise UserError(f"shared memory has no room for a batch ({_state()}); {REMEDY}") from error


def listed(items: Sequence[Any]) -> list[Any]:
    """A ``collate_fn`` that keeps the items apart; in a reader their tensors are in shared memory."""
    with room_for_a_batch():
        for tensor in tensors_in(items):
            shared(tensor)
    return list(items)


def shortage(batch_bytes: int, workers: int) -> str | None:
    """A line that says what to do where the batches that readers hold ready may not fit; None where they do."""
    needed = batch_bytes * workers * AHEAD
    if not os.path.isdir(FOLDER) or needed <= _free_and_all()[0]:
        return None
    return (
        f"{workers} readers with {AHEAD} batches of {_mib(batch_bytes)} each need up to {_mib(needed)} of "
        f"shared memory ({_state()}); {REMEDY}"
    )


def _free_and_all() -> tuple[int, int]:
    state = os.statvfs(FOLDER)
    return state.f_bavail * state.f_frsize, state.f_blocks * state.f_frsize


def _state() -> str:
    free, everything = _free_and_all()
    return f"{_mib(free)} of {_mib(everything)} are free"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
