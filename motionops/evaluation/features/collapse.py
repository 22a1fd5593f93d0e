"""Whether a network tells videos apart at all: one that has collapsed gives each of them the same feature."""

from __future__ import annotations

import torch
from torch import Tensor

# Of the mean feature's length. Rounding alone moves float32 features by about 1e-6 of it.
_SAME = 1e-4


def all_same(features: Tensor) -> bool:
    """Whether two or more features ``[N, C]`` differ by no more than rounding."""
    if len(features) < 2:
        return False
    features = features.detach().double()
    mean = features.mean(dim=0)
    return bool((features - mean).norm(dim=1).max() <= _SAME * mean.norm())


def collapse_warnings(*sets: Tensor, what: str = "features") -> list[str]:
    """The line that says so, of the features of all lists together; none where they differ.

    Args:
        sets: ``[N, C]`` each, of one C.
        what: they are: features, or a classifier's scores.
    """
    if not all_same(torch.cat(sets)):
        return []
    count = sum(map(len, sets))
    return [f"all {what} are the same ({count} videos): the network tells no video from another, it has collapsed"]
