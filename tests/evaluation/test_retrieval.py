"""Recall at k against answers known beforehand and an independent NumPy implementation."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from motionops.evaluation import (
    bootstrap_interval,
    chance_recall,
    fit_linear,
    knn_accuracy,
    knn_scores,
    linear_probe,
    majority_accuracy,
    nearest_neighbours,
    retrieval_recall,
)
from motionops.evaluation import retrieval_recall as retrieval_function
from motionops.evaluation.features import neighbours
from motionops.evaluation.protocols.retrieval import NEVER, first_hits


def numpy_recall(query, query_labels, gallery, gallery_labels, k):
    """Written from the definition: sort all neighbours by cosine, look at the first k."""
    hits = 0
    for feature, label in zip(query, query_labels, strict=True):
        cosines = [feature @ other / (np.linalg.norm(feature) * np.linalg.norm(other)) for other in gallery]
        order = sorted(range(len(gallery)), key=lambda j: (-cosines[j], j))
        hits += any(gallery_labels[j] == label for j in order[:k])
    return 100.0 * hits / len(query)


def random_case(seed=0, queries=40, gallery=120, dim=6, classes=7):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(queries, dim, generator=generator),
        torch.randint(classes, (queries,), generator=generator),
        torch.randn(gallery, dim, generator=generator),
        torch.randint(classes, (gallery,), generator=generator),
    )


def test_the_package_and_its_module_give_the_same_function():
    assert callable(retrieval_function)


def test_features_that_are_the_class_score_100():
    labels = torch.arange(8).repeat(5)
    features = torch.nn.functional.one_hot(labels, 8).float()
    scores = retrieval_recall(features, labels, features * 3, labels)
    assert scores == {"R@1": 100.0, "R@5": 100.0, "R@10": 100.0, "R@20": 100.0}


def test_values_by_hand():
    # From (1, 0): the first neighbour is a "b", the second an "a"; from (0, 1) the classes are the other way round.
    gallery = torch.tensor([[1.0, 0.1], [1.0, 0.5], [-1.0, 0.0]])
    labels = ["b", "a", "a"]
    assert retrieval_recall(torch.tensor([[2.0, 0.0]]), ["a"], gallery, labels, ks=(1, 2)) == {"R@1": 0.0, "R@2": 100.0}
    assert retrieval_recall(torch.tensor([[0.0, 2.0]]), ["a"], gallery, labels, ks=(1,)) == {"R@1": 100.0}


@pytest.mark.parametrize("seed", range(5))
def test_equals_numpy(seed):
    query, query_labels, gallery, gallery_labels = random_case(seed)
    scores = retrieval_recall(query, query_labels, gallery, gallery_labels, ks=(1, 2, 5, 10, 20, 200))
    for k in (1, 2, 5, 10, 20, 200):
        expected = numpy_recall(query.numpy(), query_labels.tolist(), gallery.numpy(), gallery_labels.tolist(), k)
        assert scores[f"R@{k}"] == pytest.approx(expected)


def test_chunks_change_nothing(monkeypatch):
    case = random_case(3)
    whole = first_hits(*case)
    import sys

    monkeypatch.setattr(sys.modules["motionops.evaluation.protocols.retrieval"], "CHUNK_ELEMENTS", 500)
    assert torch.equal(first_hits(*case), whole)


def test_order_of_either_set_changes_nothing():
    query, query_labels, gallery, gallery_labels = random_case(1)
    scores = retrieval_recall(query, query_labels, gallery, gallery_labels)
    p, q = torch.randperm(len(query)), torch.randperm(len(gallery))
    assert retrieval_recall(query[p], query_labels[p], gallery[q], gallery_labels[q]) == scores


def test_scale_of_a_feature_changes_nothing():
    query, query_labels, gallery, gallery_labels = random_case(2)
    scale = torch.rand(len(gallery), 1) * 10 + 0.1
    assert retrieval_recall(query, query_labels, gallery * scale, gallery_labels) == retrieval_recall(
        query, query_labels, gallery, gallery_labels
    )


def test_equally_near_neighbours_keep_the_order_of_the_gallery():
    gallery = torch.ones(6, 3)
    labels = [0, 0, 1, 1, 2, 2]
    assert first_hits(torch.ones(3, 3), [0, 1, 2], gallery, labels).tolist() == [0, 2, 4]
    assert nearest_neighbours(torch.ones(1, 3), gallery, 4).tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("k", [1, 3, 7, 8, 30, 100])
def test_the_nearest_of_many_ties_in_blocks_are_a_stable_sorts(k, monkeypatch):
    """Few distinct features, so that ties cross every border of blocks and of k."""
    monkeypatch.setattr(neighbours, "BLOCK", 8)
    monkeypatch.setattr(neighbours, "QUERIES", 4)
    generator = torch.Generator().manual_seed(k)
    kinds = torch.eye(4)[torch.randint(4, (61,), generator=generator)]
    query = torch.randn(9, 4, generator=generator)
    cosines = query.double() @ kinds.double().T
    expected = np.argsort(-cosines.numpy(), axis=1, kind="stable")[:, :k]
    assert nearest_neighbours(query, kinds, k).tolist() == expected.tolist()
    untouched = query.clone().double()
    neighbours.nearest(untouched, kinds, k)
    assert torch.equal(untouched, query.double())


def test_equal_features_are_ties_wherever_they_lie():
    """A BLAS adds up the columns at the border of a matrix in another order than those within."""
    generator = torch.Generator().manual_seed(0)
    gallery, feature = torch.randn(1003, 64, generator=generator), torch.randn(64, generator=generator)
    places = [3, 100, 1001, 1002]
    gallery[places] = feature
    query = feature + 0.01 * torch.randn(100, 64, generator=generator)
    assert nearest_neighbours(query, gallery, 4).tolist() == [places] * 100
    labels = [0] * 1003
    labels[1002] = 1
    assert first_hits(query, [1] * 100, gallery, labels).tolist() == [3] * 100


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that an operation gives."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.numel() * tensor.element_size())
        return result


def test_memory_of_the_nearest_does_not_grow_with_query_times_gallery():
    """1,500 x 60,000 similarities are 720 MB in float64; those of a part and a block are held."""
    with Largest() as largest:
        nearest_neighbours(torch.randn(1500, 4), torch.randn(60_000, 4), 5)
    assert largest.bytes <= 8 * neighbours.BLOCK * neighbours.QUERIES


def test_shuffled_labels_score_chance_within_the_interval():
    generator = torch.Generator().manual_seed(7)
    labels = torch.arange(800) % 8
    features = torch.nn.functional.one_hot(labels, 8).float() + 0.1 * torch.randn(800, 8, generator=generator)
    shuffled = labels[torch.randperm(800, generator=generator)]
    hits = first_hits(features[:400], shuffled[:400], features[400:], shuffled[400:]) < 1
    low, high = bootstrap_interval(hits)
    assert low <= chance_recall(shuffled[:400], shuffled[400:])["R@1"] <= high


def test_arrays_and_lists_are_taken_alike():
    query, query_labels, gallery, gallery_labels = random_case(6)
    scores = retrieval_recall(query, query_labels, gallery, gallery_labels)
    assert retrieval_recall(query.numpy(), list(query_labels.numpy()), gallery, gallery_labels.tolist()) == scores
    names = [[f"class {label}" for label in labels.tolist()] for labels in (query_labels, gallery_labels)]
    assert retrieval_recall(query, names[0], gallery.numpy(), names[1]) == scores


def test_a_class_that_the_gallery_lacks_counts_as_wrong():
    features = torch.eye(3)
    assert first_hits(features, [0, 1, 9], features, [0, 1, 2]).tolist() == [0, 0, NEVER]
    assert retrieval_recall(features, [0, 1, 9], features, [0, 1, 2], ks=(20,))["R@20"] == pytest.approx(200 / 3)


def test_nearest_agrees_with_the_recall():
    query, query_labels, gallery, gallery_labels = random_case(4)
    found = gallery_labels[nearest_neighbours(query, gallery, 5)]
    recall = (found == query_labels[:, None]).any(1).double().mean().item() * 100
    assert recall == pytest.approx(retrieval_recall(query, query_labels, gallery, gallery_labels)["R@5"])


@pytest.mark.parametrize("k", [1, 5, 40])
def test_chance_is_what_random_neighbours_score(k):
    generator = torch.Generator().manual_seed(0)
    gallery_labels = torch.tensor([0] * 10 + [1] * 20 + [2] * 3)
    query_labels = torch.tensor([0, 1, 2, 2])
    expected = chance_recall(query_labels, gallery_labels, (k,))[f"R@{k}"]
    hits = [
        (gallery_labels[torch.randperm(33, generator=generator)[:k]][None] == query_labels[:, None]).any(1)
        for _ in range(4000)
    ]
    assert torch.stack(hits).double().mean().item() * 100 == pytest.approx(expected, abs=1.5)


def test_balanced_chance_and_majority():
    labels = list(range(8)) * 10
    assert chance_recall(labels, labels)["R@1"] == pytest.approx(12.5)
    assert majority_accuracy(["a", "b", "b"], ["b", "b", "a"]) == pytest.approx(200 / 3)
    assert majority_accuracy(["a", "b", "b"], ["a", "a", "b"]) == pytest.approx(100 / 3)  # the gallery's, not theirs


def test_bootstrap_interval():
    low, high = bootstrap_interval([1] * 50 + [0] * 50)
    # The normal approximation: 1.96 standard errors of 5 points each way.
    assert low == pytest.approx(50 - 9.8, abs=1.1)
    assert high == pytest.approx(50 + 9.8, abs=1.1)
    assert bootstrap_interval([1] * 50 + [0] * 50) == (low, high)
    assert bootstrap_interval([1] * 10) == (100.0, 100.0)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([])


def test_low_precision_and_zero_features():
    query, query_labels, gallery, gallery_labels = random_case(5)
    scores = retrieval_recall(query.bfloat16(), query_labels, gallery.bfloat16(), gallery_labels)
    assert all(0 <= value <= 100 and math.isfinite(value) for value in scores.values())
    assert first_hits(torch.zeros(1, 3), [1], torch.eye(3), [0, 1, 1]).tolist() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.ones(4)}, r"query must be \[videos, C\], got \[4\]"),
        ({"query": torch.ones(0, 6)}, "query must hold at least one video"),
        ({"gallery": torch.ones(0, 6)}, "gallery must hold at least one video"),
        ({"gallery": torch.ones(120, 5)}, r"gallery must be \[M, C=6\], got \[120, 5\]"),
        ({"query": torch.full((40, 6), math.nan)}, "query row 0 is not finite"),
        ({"query_labels": [1, 2]}, "query_labels must hold 40 classes, got 2"),
        ({"gallery_labels": []}, "gallery_labels must hold 120 classes, got 0"),
        ({"gallery_labels": ["a"] * 120}, "of one kind, got int and str"),
        ({"ks": ()}, "ks must be whole numbers"),
        ({"ks": (0,)}, "ks must be whole numbers"),
        ({"ks": (1.5,)}, "ks must be whole numbers"),
    ],
)
def test_wrong_arguments(change, message):
    names = ("query", "query_labels", "gallery", "gallery_labels")
    arguments = {**dict(zip(names, random_case(), strict=True)), **change}
    with pytest.raises(ValueError, match=f"retrieval: {message}|retrieval: .*{message}"):
        retrieval_recall(**arguments)


FEATURES, LABELS = torch.eye(3), ["a", "b", "c"]


@pytest.mark.parametrize("wrong", [None, "abc", [object()], 3], ids=["none", "text", "objects", "number"])
@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda x: nearest_neighbours(x, FEATURES, 1), "retrieval: query"),
        (lambda x: nearest_neighbours(FEATURES, FEATURES, [x]), "retrieval: ks"),
        (lambda x: retrieval_recall(FEATURES, x, FEATURES, LABELS), "retrieval: query_labels"),
        (lambda x: chance_recall(LABELS, x), "retrieval: gallery_labels"),
        (lambda x: knn_scores(FEATURES, x, torch.arange(3), 3), "knn: gallery"),
        (lambda x: knn_scores(FEATURES, FEATURES, x, 3), "knn: gallery_classes"),
        (lambda x: knn_accuracy(x, LABELS, FEATURES, LABELS), "knn: query"),
        (lambda x: knn_accuracy(FEATURES, LABELS, FEATURES, x), "knn: gallery_labels"),
        (lambda x: fit_linear(x, LABELS, LABELS), "fit_linear: features"),
        (lambda x: fit_linear(FEATURES, x, LABELS), "fit_linear: labels"),
        (lambda x: linear_probe(FEATURES, LABELS, x, LABELS), "linear_probe: test"),
    ],
    ids=lambda value: value.split()[-1] if isinstance(value, str) else None,
)
def test_what_is_no_feature_and_no_class_is_named(call, named, wrong):
    with pytest.raises((TypeError, ValueError), match=f"^{named} must"):
        call(wrong)
