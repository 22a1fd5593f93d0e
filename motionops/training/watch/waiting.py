"""How much of a run's time is spent waiting for the next batch."""

from __future__ import annotations

import time

from motionops.commandline import warn

WORTH_A_WORD = 0.1  # of the time
STEPS_BEFORE = 50  # the readers' start is no measure of them


class Waiting:
    """Adds up the time between a batch's end and the next one's start: reading, decoding, the copy to the device."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._seconds = self._all = self._waited = 0.0
        self._steps, self._told = 0, False

    def batch_ends(self) -> None:
        self._since = time.perf_counter()

    def batch_starts(self) -> None:
        if self._since is not None:
            self._seconds += time.perf_counter() - self._since

    def share(self, elapsed: float, steps: int, workers: int) -> float:
        """Of the seconds and steps since the last call; where it stays large, one line says what shortens it."""
        share = min(1.0, self._seconds / max(elapsed, 1e-9))
        self._steps += steps
        if self._steps > STEPS_BEFORE:
            self._all += elapsed
            self._waited += self._seconds
            if self._waited > WORTH_A_WORD * self._all and not self._told:
                self._told = True
                said = f"{100 * self._waited / self._all:.0f} % of the time is spent waiting for videos"
                warn(f"{said}; more --workers (now {workers}) or a --cache-gib that holds them shortens it")
        self._seconds = 0.0
        return round(share, 3)
