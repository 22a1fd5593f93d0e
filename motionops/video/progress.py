"""Long work on many videos: its progress bar, and how many are worked on at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def with_progress(items: Iterable[Item], total: int, description: str, show: bool) -> Iterator[Item]:
    """Yield ``items`` and show a bar on stderr where ``show`` is true and tqdm is installed."""
    if show:
        try:
            from tqdm import tqdm
        except ImportError:
            pass  # the bar is a comfort, not a part of the work
        else:
            interval = 0.2 if sys.stderr.isatty() else 10.0  # seconds; few lines where stderr is a file
            items = tqdm(items, total=total, desc=description, unit="video", dynamic_ncols=True, mininterval=interval)
    yield from items


def threads(workers: int | None) -> int:
    """How many work at the same time; None: one for each core, 0: one, as a DataLoader's workers count."""
    return len(os.sched_getaffinity(0)) if workers is None else max(workers, 1)
