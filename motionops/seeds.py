"""One seed from several numbers."""

from __future__ import annotations

import numpy as np


def mix(*numbers: int) -> int:
    """One seed below 2^63 from several whole numbers; neighbours give unrelated streams."""
    sequence = np.random.SeedSequence([number & (2**64 - 1) for number in numbers])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
