"""What the operators on flow fields share in Python."""

from __future__ import annotations

import torch
from torch import Tensor


def safe_sqrt(squares: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0, where that of torch.sqrt is infinite."""
    positive = squares > 0
    root = torch.where(positive, squares, 1).sqrt()
    return torch.where(positive, root, squares * 0)  # not a constant 0: NaN stays NaN
