"""The machine that the emulator imagines, as the Python tests choose it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIBRARY = Path(__file__).resolve().parent / "_emulated.so"


@contextmanager
def multiprocessors(count: int) -> Iterator[None]:
    """As many as that while inside; otherwise few. Operators share their work out among them."""
    number = ctypes.c_int.in_dll(ctypes.CDLL(str(LIBRARY)), "motionops_emulated_multiprocessors")
    before, number.value = number.value, count
    try:
        yield
    finally:
        number.value = before
