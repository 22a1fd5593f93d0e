"""Video retrieval: is a video of the same class among the nearest ones of the gallery?

The protocol of the five papers (Xu et al., "Self-supervised spatiotemporal learning via video clip order prediction",
CVPR 2019): every test video is a query, the training videos are the gallery, features are compared by cosine, and a
query counts at k if any of its k nearest neighbours has its class. Scores are in per cent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from motionops.evaluation.features.given import given_classes, given_features
from motionops.evaluation.features.neighbours import nearest, unit

RECALL_AT = (1, 5, 10, 20)

# The position of what is not in the gallery: behind every k, also a k above the gallery's size.
NEVER = torch.iinfo(torch.int64).max

# Similarities that are held at once: 2^22 float64 values are 32 MiB, whatever the sizes of query and gallery.
CHUNK_ELEMENTS = 1 << 22


def retrieval_recall(
    query: Tensor,
    query_labels: Tensor | Sequence,
    gallery: Tensor,
    gallery_labels: Tensor | Sequence,
    ks: Sequence[int] = RECALL_AT,
) -> dict[str, float]:
    """Recall at k in per cent: the share of queries with a neighbour of their class among the k nearest.

    Args:
        query: features ``[N, C]``, any floating type; need not be normalised.
        query_labels: N classes, integers or strings.
        gallery: features ``[M, C]``.
        gallery_labels: M classes, of the same kind as ``query_labels``.
        ks: the values of k, each at least 1. A k above M means that all M videos are neighbours.

    Returns:
        ``{"R@1": ..., ...}``, one entry for each k.

    Neighbours that are equally near are taken in the order of the gallery. A zero feature has similarity 0 to all.

    Raises:
        ValueError: sizes that do not fit, no query or no gallery, a feature that is not finite, or a k below 1.
    """
    ks = checked_ks(ks)
    positions = first_hits(query, query_labels, gallery, gallery_labels)
    return {f"R@{k}": 100.0 * float((positions < k).double().mean()) for k in ks}


def first_hits(
    query: Tensor, query_labels: Tensor | Sequence, gallery: Tensor, gallery_labels: Tensor | Sequence
) -> Tensor:
    """How many gallery videos are nearer to each query than its first neighbour of the same class.

    Arguments and errors as in :func:`retrieval_recall`.

    Returns:
        ``[N]`` int64 on the CPU; 0: the nearest video is right; NEVER: the gallery has no video of this class.
    """
    query, gallery = checked_features(query, gallery)
    query_classes, gallery_classes = _class_numbers(
        query_labels, gallery_labels, query.shape[0], gallery.shape[0], query.device
    )
    query, gallery = unit(query), unit(gallery)
    size = gallery.shape[0]
    order = torch.arange(size, device=gallery.device)
    positions = []
    rows = max(1, CHUNK_ELEMENTS // size)
    for features, classes in zip(query.split(rows), query_classes.split(rows), strict=True):
        similarity = features @ gallery.T
        right = classes[:, None] == gallery_classes[None, :]
        best = similarity.masked_fill(~right, -math.inf).amax(dim=1, keepdim=True)
        first = order.where(right & (similarity == best), size).amin(dim=1, keepdim=True)
        # Whatever comes before the first right one is wrong by definition, so counting replaces sorting.
        before = (similarity > best) | ((similarity == best) & (order < first))
        positions.append(before.sum(dim=1).where(right.any(dim=1), NEVER))
    return torch.cat(positions).cpu()


def nearest_neighbours(query: Tensor, gallery: Tensor, k: int) -> Tensor:
    """The k nearest gallery videos of each query.

    Args:
        query: features ``[N, C]``, any floating type; need not be normalised.
        gallery: features ``[M, C]``.
        k: at least 1; above M all are neighbours.

    Returns:
        int64 ``[N, min(k, M)]`` on the CPU, nearest first; equally near ones in the order of the gallery.

    Raises:
        ValueError: as :func:`retrieval_recall`.
    """
    (k,) = checked_ks((k,))
    query, gallery = checked_features(query, gallery)
    return nearest(query, gallery, k)[1].cpu()


def chance_recall(
    query_labels: Tensor | Sequence, gallery_labels: Tensor | Sequence, ks: Sequence[int] = RECALL_AT
) -> dict[str, float]:
    """What random neighbours would score: the expected recall at k in per cent, from the class counts alone.

    A query whose class has c of the M gallery videos hits at k with probability 1 - C(M - c, k) / C(M, k).

    Args:
        query_labels, gallery_labels: N and M classes of one kind, integers or strings.
        ks: the values of k, each at least 1.

    Returns:
        ``{"R@1": ..., ...}``, one entry for each k.
    """
    ks = checked_ks(ks)
    query_classes, gallery_classes = _class_numbers(query_labels, gallery_labels, None, None, torch.device("cpu"))
    size = len(gallery_classes)
    members = torch.bincount(gallery_classes, minlength=int(query_classes.max()) + 1)
    counts = members[query_classes].tolist()
    scores = {}
    for k in ks:
        missed = {c: math.comb(size - c, k) / math.comb(size, k) if k <= size else float(c == 0) for c in set(counts)}
        scores[f"R@{k}"] = 100.0 * (1.0 - sum(missed[c] for c in counts) / len(counts))
    return scores


def majority_accuracy(query_labels: Tensor | Sequence, gallery_labels: Tensor | Sequence) -> float:
    """What always answering the gallery's most frequent class would score on the queries, in per cent."""
    query_classes, gallery_classes = _class_numbers(query_labels, gallery_labels, None, None, torch.device("cpu"))
    return 100.0 * float((query_classes == torch.bincount(gallery_classes).argmax()).double().mean())


def bootstrap_interval(
    hits: Tensor | Sequence[bool], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Interval of a mean of hits, in per cent, by the percentile bootstrap over queries.

    Args:
        hits: N values, true where a query was right.
        confidence: the share of resamples inside the interval.
        resamples: how many sets of N queries are drawn, with replacement.
        seed: of the draw; the same hits give the same interval.

    It says how much the score would move with other test videos; it says nothing about other training seeds. A score of
    exactly 0 or 100 has an interval of zero width.
    """
    try:
        hits = torch.as_tensor(hits).bool()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"bootstrap_interval: hits must be true or false each, got {type(hits).__name__}") from None
    if hits.numel() == 0:
        raise ValueError("bootstrap_interval: hits must hold at least one value, got none")
    # The sum over N draws from N yes/no values is binomial, so nothing of size N x resamples is drawn.
    sums = np.random.default_rng(seed).binomial(hits.numel(), float(hits.double().mean()), size=resamples)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(100.0 * sums / hits.numel(), [tail, 100.0 - tail])
    return float(low), float(high)


def checked_ks(ks: Sequence[int]) -> tuple[int, ...]:
    """The values of k as whole numbers; ValueError where one is below 1 or there is none."""
    try:
        whole = tuple(int(k) for k in ks)
        right = bool(whole) and all(number >= 1 and number == k for number, k in zip(whole, ks, strict=True))
    except (TypeError, ValueError, RuntimeError):
        right = False
    if not right:
        raise ValueError(f"retrieval: ks must be whole numbers of at least 1, got {ks}")
    return whole


def checked_features(query: Tensor, gallery: Tensor, op: str = "retrieval") -> tuple[Tensor, Tensor]:
    query, gallery = given_features(op, "query", query), given_features(op, "gallery", gallery)
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(f"{op}: gallery must be [M, C={query.shape[1]}], got {list(gallery.shape)}")
    return query, gallery.to(query.device)


def _class_numbers(
    query_labels: Tensor | Sequence,
    gallery_labels: Tensor | Sequence,
    queries: int | None,
    size: int | None,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Both label lists as int64 numbers of their common classes; checked against the number of features."""
    both = []
    for name, given, expected in (
        ("query_labels", query_labels, queries),
        ("gallery_labels", gallery_labels, size),
    ):
        labels = given_classes("retrieval", name, given)
        if not labels or (expected is not None and len(labels) != expected):
            raise ValueError(f"retrieval: {name} must hold {expected or 'some'} classes, got {len(labels)}")
        both.append(labels)
    kinds = {type(label) for labels in both for label in labels}
    if len(kinds) > 1:
        names = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(f"retrieval: query_labels and gallery_labels must be of one kind, got {names}")
    numbers = {label: number for number, label in enumerate(sorted(set(both[0]) | set(both[1])))}
    query_classes, gallery_classes = (
        torch.tensor([numbers[label] for label in labels], device=device) for labels in both
    )
    return query_classes, gallery_classes
