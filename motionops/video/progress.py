"""The progress bar of long work on many videos."""

from __future__ import annotations

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
