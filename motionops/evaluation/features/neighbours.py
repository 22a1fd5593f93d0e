"""The nearest features of a gallery by cosine, in blocks: what is held does not grow with query times gallery."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1 << 13  # gallery rows at once; of 512 channels 32 MiB in float64
STEPS = 1 << 26  # of a channel from 0 to 1; 2 · 26 bits and the sum, below 2, are float64's 53
QUERIES = 1 << 9  # query rows at once: with a block 32 MiB of similarities


def unit(features: Tensor) -> Tensor:
    """Rows of length 1 in float64, a zero row as it is, in steps of 2^-26, those of float32 at 0.2.

    Products of two rows and all their partial sums are then exact, in whatever order a BLAS takes them: similarities of
    equal features come out equal, so that ties are ties.
    """
    features = features.to(torch.float64, copy=True)
    features.div_(features.norm(dim=1, keepdim=True).clamp_min_(1e-12))
    return features.mul_(STEPS).round_().div_(STEPS)


def nearest(query: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosines float64 and places int64, both ``[N, min(k, M)]``, of the k nearest rows of the gallery.

    Nearest first, equally near ones in the order of the gallery; on the query's device. ``query [N, C]`` and
    ``gallery [M, C]`` of any floating type.
    """
    query = unit(query)
    parts = query.split(QUERIES)
    best: list[tuple[Tensor, Tensor]] = []
    start = 0
    for block in gallery.split(BLOCK):
        block = unit(block)
        for number, part in enumerate(parts):
            values, places = _largest(part @ block.T, k)
            places += start
            if start:  # what was found before comes first in the gallery, and so before its equals here
                values, places = (torch.cat(pair, dim=1) for pair in zip(best[number], (values, places), strict=True))
                values, order = values.sort(dim=1, descending=True, stable=True)
                values, places = values[:, :k].clone(), places.gather(1, order[:, :k])
                best[number] = values, places
            else:
                best.append((values, places))
        start += len(block)
    values, places = zip(*best, strict=True)
    return torch.cat(values), torch.cat(places)


def _largest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row with their places, equal ones in order of place."""
    size = similarity.shape[1]
    if k >= size:
        return similarity.sort(dim=1, descending=True, stable=True)
    values, places = similarity.topk(k, dim=1)
    places, order = places.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    places = places.gather(1, order)
    # topk takes any of those that are equal to its last one: where more are than it took, the whole row is sorted.
    unsure = ((similarity >= values[:, -1:]).sum(dim=1) > k).nonzero()[:, 0]
    if len(unsure):
        sorted_values, sorted_places = similarity[unsure].sort(dim=1, descending=True, stable=True)
        values[unsure], places[unsure] = sorted_values[:, :k], sorted_places[:, :k]
    return values, places
