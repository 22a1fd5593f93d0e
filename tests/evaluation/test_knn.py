"""Weighted kNN against its formula, and of several ranks."""

import math
from collections import defaultdict

import pytest
import torch

from motionops.evaluation import knn_accuracy, knn_scores
from tests.several_ranks import on_ranks


def features(seed: int, count: int) -> tuple[torch.Tensor, list[int]]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    return torch.randn(count, 6, generator=generator) + 1.5 * torch.eye(6)[labels], labels.tolist()


def by_the_formula(query, gallery, labels, k, temperature):
    """Wu et al. 2018: of the k neighbours of largest cosine each votes for its class with exp(cosine / temperature)."""
    said = []
    for one in query.tolist():
        cosines = []
        for other in gallery.tolist():
            dot = sum(a * b for a, b in zip(one, other, strict=True))
            cosines.append(dot / math.hypot(*one) / math.hypot(*other))
        votes = defaultdict(float)
        for place in sorted(range(len(cosines)), key=lambda place: -cosines[place])[:k]:
            votes[labels[place]] += math.exp(cosines[place] / temperature)
        said.append(votes)
    return said


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (5, 0.1), (20, 0.5), (500, 0.07)])
def test_scores_are_the_formula(k, temperature):
    (query, _), (gallery, labels) = features(0, 30), features(1, 50)
    scores = knn_scores(query, gallery, torch.tensor(labels), 4, k=k, temperature=temperature)
    for row, votes in zip(scores, by_the_formula(query, gallery, labels, k, temperature), strict=True):
        expected = torch.tensor([votes[label] for label in range(4)], dtype=torch.float64)
        torch.testing.assert_close(row / row.sum(), expected / expected.sum(), rtol=1e-5, atol=1e-7)


def test_accuracy_of_labels_of_any_kind():
    (query, wanted), (gallery, labels) = features(0, 30), features(1, 50)
    votes = by_the_formula(query, gallery, labels, 20, 0.1)
    expected = 100 * sum(max(v, key=v.get) == label for v, label in zip(votes, wanted, strict=True)) / 30
    assert 50 < expected < 100
    assert knn_accuracy(query, wanted, gallery, labels, k=20) == pytest.approx(expected)
    names = [[f"class {label}" for label in some] for some in (wanted, labels)]
    assert knn_accuracy(query.half(), names[0], gallery.half(), names[1], k=20) == pytest.approx(expected)
    # a class that the gallery lacks is never told
    assert knn_accuracy(query[:3], ["none"] * 3, gallery, names[1]) == 0


def of_a_part(rank: int) -> float:
    """Of 30 queries rank 0 has 30 and rank 1 none; of 50 gallery videos each has what is left of a cut at 20."""
    (query, wanted), (gallery, labels) = features(0, 30), features(1, 50)
    mine = slice(0, 20) if rank == 0 else slice(20, 50)
    if rank:
        query, wanted = query[:0], []
    return knn_accuracy(query, wanted, gallery[mine], labels[mine], k=20)


def test_ranks_together_are_one_process(tmp_path):
    (query, wanted), (gallery, labels) = features(0, 30), features(1, 50)
    assert on_ranks(of_a_part, tmp_path) == [knn_accuracy(query, wanted, gallery, labels, k=20)] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "ks must be whole numbers of at least 1"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"gallery_labels": [1]}, "gallery_labels must hold 50 classes, got 1"),
        ({"query": torch.zeros(0, 6), "query_labels": []}, "query must hold at least one video, got none"),
    ],
)
def test_bad_arguments(change, message):
    (query, wanted), (gallery, labels) = features(0, 30), features(1, 50)
    arguments = {"query": query, "query_labels": wanted, "gallery": gallery, "gallery_labels": labels, **change}
    with pytest.raises(ValueError, match=message):
        knn_accuracy(**arguments)
    with pytest.raises(ValueError, match=r"gallery_classes must be in \[0, classes=3\)"):
        knn_scores(query, gallery, torch.tensor(labels), 3)
