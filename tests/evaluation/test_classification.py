"""Accuracies, intervals, confusion and chance rates against values by hand and an independent NumPy."""

import numpy as np
import pytest
import torch

from motionops.evaluation import classification_metrics
from motionops.evaluation.protocols.splits import class_warnings
from motionops.video import Video


def videos(labels, name="v"):
    return [Video(f"{name}{place}.mp4", str(label)) for place, label in enumerate(labels)]


def numpy_top(scores, columns, labels, k):
    """Written from the definition."""
    hits = [label in [columns[j] for j in np.argsort(-row)[:k]] for row, label in zip(scores, labels, strict=True)]
    return 100.0 * np.mean(hits)


def test_equals_numpy():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(200, 9, generator=generator)
    labels = torch.randint(9, (200,), generator=generator).tolist()
    result = classification_metrics(scores, videos(labels), videos(list(range(9)) * 3))
    columns = [str(k) for k in range(9)]
    for k in (1, 5):
        expected = numpy_top(scores.numpy(), columns, [str(label) for label in labels], k)
        assert result.metrics[f"top{k}"] == pytest.approx(expected)
    answers = scores.argmax(dim=1).tolist()
    confusion = np.zeros((9, 9), dtype=int)
    for label, answer in zip(labels, answers, strict=True):
        confusion[label, answer] += 1
    assert result.confusion.tolist() == confusion.tolist()
    within = [confusion[k, k] / max(confusion[k].sum(), 1) for k in range(9)]
    assert result.metrics["mean_class"] == pytest.approx(100 * np.mean(within))
    assert result.metrics["chance"] == pytest.approx(100 / 9)
    assert result.metrics["chance_at"]["top5"] == pytest.approx(500 / 9)
    for name, (low, high) in result.metrics["interval"].items():
        assert low <= result.metrics[name] <= high
    assert [row["top1"] for row in result.per_class] == pytest.approx([100 * share for share in within])


def test_values_by_hand():
    scores = torch.tensor([[3.0, 1.0], [3.0, 1.0], [0.0, 1.0], [2.0, 2.0]])
    result = classification_metrics(scores, videos(["a", "b", "b", "b"]), videos(["a", "b", "b"]))
    metrics = result.metrics
    assert (metrics["top1"], metrics["top5"]) == (50.0, 100.0)  # equal scores: the first class
    assert metrics["mean_class"] == pytest.approx((100 + 100 / 3) / 2)
    assert metrics["majority"] == 75.0
    assert metrics["chance"] == 50.0
    assert (metrics["n_train"], metrics["n_test"], metrics["classes"]) == (3, 4, 2)
    assert result.confusion.tolist() == [[1, 0], [2, 1]]
    assert result.per_class[1]["taken_for"] == "a"
    assert result.per_class[0]["taken_for"] == ""
    assert [row["predicted"] for row in result.predictions] == ["a", "a", "b", "a"]
    assert [row["top1"] for row in result.predictions] == [1, 0, 1, 0]


def test_a_class_that_was_not_learnt_is_wrong_and_lowers_chance():
    result = classification_metrics(torch.eye(2), videos(["a", "z"]), videos(["a", "b"]))
    assert result.classes == ["a", "b", "z"]
    assert result.metrics["top1"] == 50.0
    assert result.metrics["chance"] == 25.0
    assert result.metrics["classes"] == 2
    assert result.confusion.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert result.per_class[1]["top1"] is None


def test_of_three_classes_all_are_among_the_first_five():
    scores = torch.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
    metrics = classification_metrics(scores, videos("aa"), videos("abc")).metrics
    assert (metrics["top1"], metrics["top5"]) == (50.0, 100.0)
    assert metrics["chance"] == pytest.approx(100 / 3)
    assert metrics["chance_at"]["top5"] == 100.0


def test_a_class_without_test_videos_is_not_in_the_mean_of_the_classes():
    scores = torch.tensor([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 1.0, 2.0]])
    result = classification_metrics(scores, videos("aac"), videos("abc"))
    assert result.metrics["mean_class"] == 75.0  # of a 1/2, of c 1; b has no say
    low, high = result.metrics["interval"]["mean_class"]
    assert (low, high) == (50.0, 100.0)  # a's half is 0, 1/2 or 1, c's always 1
    assert [row["top1"] for row in result.per_class] == [50.0, None, 100.0]


def test_random_scores_are_at_chance_within_the_interval():
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(8, (600,), generator=generator).tolist()
    result = classification_metrics(torch.randn(600, 8, generator=generator), videos(labels), videos(range(8)))
    for name in ("top1", "top5", "mean_class"):
        low, high = result.metrics["interval"][name]
        assert low <= result.metrics["chance_at"][name] <= high


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"scores must be \[videos=2, classes=2\] of at least one video, got \[2, 3\]"):
        classification_metrics(torch.zeros(2, 3), videos("ab"), videos("ab"))
    with pytest.raises(ValueError, match="at least one video"):
        classification_metrics(torch.zeros(0, 2), [], videos("ab"))
    with pytest.raises(ValueError, match="finite"):
        classification_metrics(torch.full((1, 2), float("nan")), videos("a"), videos("ab"))


def test_small_and_empty_classes_are_named():
    assert class_warnings(videos("aabb"), videos("ab")) == []
    (line,) = class_warnings(videos("aab"), videos("ab"))
    assert line == "1 of 2 classes have one training video each (b)"
    (line,) = class_warnings(videos("aabb"), videos("a"))
    assert line == "1 of 2 classes have no test video (b)"
    lines = class_warnings(videos("aa"), videos("a"), videos("aabcdefg"), videos("ab"))
    assert lines[0] == "6 classes are empty: all their training videos were skipped (b, c, d, e, f, ...)"
    assert lines[1] == "1 classes are empty: all their test videos were skipped (b)"
