"""How much memory a call takes at its peak."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch

from benchmarks.measure import peak_memory


def extra_mebibytes(work: Callable[[], object], device: torch.device) -> float:
    """MiB over what is taken before it, results included; skips the test where the system does not tell."""
    gc.collect()
    peak = peak_memory(work, torch.device(device))
    if peak is None:
        pytest.skip("this system does not tell the peak of a process's memory")
    return peak


def mebibytes(rows: int, columns: int) -> float:
    """MiB of float32 `[rows, columns]`."""
    return 4 * rows * columns / 2**20
