"""What scores of classes say: accuracies with their intervals, chance beside them, the confusion, each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from motionops.evaluation.protocols.retrieval import bootstrap_interval, majority_accuracy
from motionops.evaluation.written.metrics_file import said_of_videos
from motionops.video.list_lines import Video, class_names

TOP = (1, 5)
_RESAMPLES, _SEED = 10_000, 0


@dataclass(frozen=True)
class Classification:
    """Test videos as a classifier ordered the classes for them.

    Attributes:
        classes: of both lists, in order; a class that the training list lacks is among them.
        metrics: ``top1``, ``top5``, ``mean_class`` (mean over classes of the top-1 accuracy within each), per cent;
            ``interval``, the 95 % bootstrap interval of each; ``chance`` (top-1 of uniform guesses among the training
            classes), ``chance_at``, ``majority``.
        confusion: int64 ``[K, K]``, videos of class i that were taken for class j.
        per_class: a row a class: ``class``, ``n_train``, ``n_test``, ``top1``, ``low``, ``high`` (None without test
            videos), and ``taken_for``, the most frequent wrong answer.
        predictions: a row a test video: ``path``, ``label``, ``predicted``, ``probability`` or score of that class,
            and 1 or 0 for ``top1`` and ``top5``.
    """

    classes: list[str]
    metrics: dict[str, Any]
    confusion: Tensor
    per_class: list[dict[str, Any]]
    predictions: list[dict[str, Any]]


class ClipProbabilities(nn.Module):
    """A classifier as a backbone whose features are the classes' probabilities: their mean is a video's score.

    Args:
        network: clips `[B, 3, T, S, S]` -> logits `[B, K]`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        return self.network(clips).float().softmax(dim=1)


def classification_metrics(scores: Tensor, test: Sequence[Video], train: Sequence[Video]) -> Classification:
    """Judge scores.

    Args:
        scores: ``[N, K]``, higher is likelier; columns are ``class_names(train)``. Equal scores are taken in the order
            of the classes.
        test: the N labelled videos.
        train: the videos that were learnt from, for the classes and the chance rates.

    Raises:
        ValueError: sizes that do not fit, or a score that is not finite.
    """
    known, names = class_names(train), class_names(train, test)
    if scores.shape != (len(test), len(known)) or not len(test):
        raise ValueError(
            f"classification_metrics: scores must be [videos={len(test)}, classes={len(known)}] of at least one video, "
            f"got {list(scores.shape)}"
        )
    if not bool(torch.isfinite(scores).all()):
        raise ValueError("classification_metrics: scores must be finite")
    number = {name: place for place, name in enumerate(names)}
    column = torch.tensor([number[name] for name in known])
    truth = torch.tensor([number[video.label] for video in test])
    order = scores.detach().cpu().double().sort(dim=1, descending=True, stable=True)
    ranked = column[order.indices]
    hits = {f"top{k}": (ranked[:, :k] == truth[:, None]).any(dim=1) for k in TOP}

    confusion = torch.zeros(len(names), len(names), dtype=torch.int64)
    confusion.index_put_((truth, ranked[:, 0]), torch.ones(len(test), dtype=torch.int64), accumulate=True)
    per_class = _per_class(names, confusion, hits["top1"], truth, Counter(video.label for video in train))
    known_share = float(torch.isin(truth, column).double().mean())
    chances = {f"top{k}": 100.0 * known_share * min(k, len(known)) / len(known) for k in TOP}
    labels = [[video.label for video in videos] for videos in (test, train)]
    metrics = {
        **{name: 100.0 * float(hit.double().mean()) for name, hit in hits.items()},
        "mean_class": float(np.mean([row["top1"] for row in per_class if row["n_test"]])),
        "interval": {
            **{name: list(bootstrap_interval(hit)) for name, hit in hits.items()},
            "mean_class": list(_mean_class_interval(confusion)),
        },
        "n_train": len(train),
        "n_test": len(test),
        "classes": len(known),
        "chance": chances["top1"],
        "chance_at": {**chances, "mean_class": chances["top1"]},
        "majority": majority_accuracy(*labels),
    }
    predictions = [
        {
            "path": video.path,
            "label": video.label,
            "predicted": names[int(ranked[place, 0])],
            "score": float(order.values[place, 0]),
            **{name: int(hit[place]) for name, hit in hits.items()},
        }
        for place, video in enumerate(test)
    ]
    return Classification(names, metrics, confusion, per_class, predictions)


def format_classification(metrics: dict) -> str:
    """The metrics as a table for the terminal."""
    lines = [f"{'':<12}{'score':>8}{'95 % interval':>18}{'chance':>10}{'majority':>10}"]
    for name, (low, high) in metrics["interval"].items():
        rates = f"{metrics['chance_at'][name]:10.1f}" + (f"{metrics['majority']:10.1f}" if name == "top1" else "")
        lines.append(f"{name:<12}{metrics[name]:8.1f}{f'{low:.1f} - {high:.1f}':>18}{rates}")
    return "\n".join([*lines, *said_of_videos(metrics)])


def classification_warnings(classes: int) -> list[str]:
    """A line where top-5 says nothing."""
    return [f"top5 of {classes} classes is 100 by definition"] if classes <= max(TOP) else []


def _per_class(
    names: Sequence[str], confusion: Tensor, right: Tensor, truth: Tensor, trained: Counter
) -> list[dict[str, Any]]:
    rows = []
    for place, name in enumerate(names):
        own = right[truth == place]
        wrong = confusion[place].clone()
        wrong[place] = 0
        low, high = bootstrap_interval(own) if len(own) else (None, None)
        rows.append(
            {
                "class": name,
                "n_train": trained[name],
                "n_test": len(own),
                "top1": 100.0 * float(own.double().mean()) if len(own) else None,
                "low": low,
                "high": high,
                "taken_for": names[int(wrong.argmax())] if int(wrong.max()) else "",
            }
        )
    return rows


def _mean_class_interval(confusion: Tensor, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap of the mean of the classes' accuracies, the videos drawn within each class.

    A class all of whose test videos are right, or all wrong, adds no width: with a few videos a class it is too narrow.
    """
    counts = confusion.sum(dim=1).numpy()
    tested = counts > 0
    right = confusion.diagonal().numpy()[tested]
    counts = counts[tested]
    # Right answers among n draws with replacement from n videos of which m are right: binomial.
    draws = np.random.default_rng(_SEED).binomial(counts, right / counts, size=(_RESAMPLES, len(counts)))
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(100.0 * (draws / counts).mean(axis=1), [tail, 100.0 - tail])
    return float(low), float(high)
