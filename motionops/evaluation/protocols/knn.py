"""Weighted k nearest neighbours: what a frozen network's features tell without a fit, cheap enough for every epoch.

Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", CVPR 2018, section 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from motionops.arrays import as_tensor, numbers_on_host
from motionops.evaluation.features.given import given_classes
from motionops.evaluation.features.neighbours import nearest
from motionops.evaluation.protocols.retrieval import checked_features, checked_ks
from motionops.ranks import gather_lists, gather_rows, sum_over_ranks


def knn_scores(
    query: Tensor, gallery: Tensor, gallery_classes: Tensor, classes: int, *, k: int = 200, temperature: float = 0.1
) -> Tensor:
    """How much the k nearest gallery videos speak for each class.

    Each votes for its own class with ``exp(cosine / temperature)``.

    Args:
        query: features ``[N, C]``, any floating type; need not be normalised.
        gallery: features ``[M, C]``.
        gallery_classes: int64 ``[M]``, each in [0, classes).
        classes: how many there are.
        k: neighbours that count; above M all do. Of equally near ones the first of the gallery do.
        temperature: above 0: the smaller, the more the nearest ones count.

    Returns:
        float64 ``[N, classes]``, over the weight of the nearest neighbour: ``argmax`` is the prediction.

    Raises:
        ValueError: sizes or numbers that do not fit, a feature that is not finite.
    """
    (k,) = checked_ks((k,))
    query, gallery = checked_features(query, gallery, "knn")
    gallery_classes = numbers_on_host("knn", "gallery_classes", gallery_classes, whole=True).to(query.device)
    if gallery_classes.shape != (len(gallery),):
        raise ValueError(f"knn: gallery_classes must be [M={len(gallery)}], got {list(gallery_classes.shape)}")
    if bool((gallery_classes < 0).any()) or bool((gallery_classes >= classes).any()):
        raise ValueError(f"knn: gallery_classes must be in [0, classes={classes}), got others")
    if not temperature > 0:
        raise ValueError(f"knn: temperature must be above 0, got {temperature}")
    near, places = nearest(query, gallery, k)
    scores = near.new_zeros(len(query), classes)
    return scores.scatter_add_(1, gallery_classes[places], ((near - near[:, :1]) / temperature).exp())


def knn_accuracy(
    query: Tensor,
    query_labels: Tensor | Sequence,
    gallery: Tensor,
    gallery_labels: Tensor | Sequence,
    *,
    k: int = 200,
    temperature: float = 0.1,
) -> float:
    """The share of queries whose class the weighted k nearest neighbours tell, in per cent.

    Several ranks:
        Each gives its own part of the queries and of the gallery, of any size (``videos[rank::world]``), and all get
        the score of the whole. All must call.

    Args:
        query: features ``[N, C]``, any floating type; need not be normalised.
        query_labels: N classes, integers or strings.
        gallery: features ``[M, C]``.
        gallery_labels: M classes, of the same kind.
        k, temperature: as of :func:`knn_scores`.

    Raises:
        ValueError: sizes or numbers that do not fit, a feature that is not finite.
    """
    query_labels = given_classes("knn", "query_labels", query_labels)
    gallery_labels = given_classes("knn", "gallery_labels", gallery_labels)
    query, gallery = as_tensor("knn", "query", query), as_tensor("knn", "gallery", gallery)
    for name, features, labels in (("query", query, query_labels), ("gallery", gallery, gallery_labels)):
        if len(features) != len(labels):
            raise ValueError(f"knn: {name}_labels must hold {len(features)} classes, got {len(labels)}")
    gallery, gallery_labels = gather_rows(gallery), gather_lists(gallery_labels)
    numbers = {label: number for number, label in enumerate(dict.fromkeys(gallery_labels))}
    right = torch.zeros(2, dtype=torch.float64, device=query.device)  # of this rank's queries; and their number
    if len(query):
        gallery_classes = torch.tensor([numbers[label] for label in gallery_labels], device=query.device)
        scores = knn_scores(query, gallery, gallery_classes, len(numbers), k=k, temperature=temperature)
        wanted = torch.tensor([numbers.get(label, -1) for label in query_labels], device=query.device)
        right[0], right[1] = (scores.argmax(dim=1) == wanted).sum(), len(query)
    hits, count = sum_over_ranks(right).tolist()
    if not count:
        raise ValueError("knn: query must hold at least one video, got none")
    return 100.0 * hits / count
