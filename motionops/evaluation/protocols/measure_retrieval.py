"""Retrieval as a whole: from a backbone and two lists of videos to the numbers in ``metrics.json``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from motionops.commandline import warn as print_warning
from motionops.evaluation.features.collapse import collapse_warnings
from motionops.evaluation.features.frozen_features import frozen_features
from motionops.evaluation.features.labelled_features import LabelledFeatures, only_helps
from motionops.evaluation.pictures import retrieval_strips
from motionops.evaluation.protocols.linear import linear_probe
from motionops.evaluation.protocols.retrieval import (
    RECALL_AT,
    bootstrap_interval,
    chance_recall,
    checked_ks,
    first_hits,
    majority_accuracy,
    nearest_neighbours,
)
from motionops.evaluation.protocols.splits import class_warnings, recording, split_warnings
from motionops.evaluation.written.metrics_file import PREDICTIONS, notes, said_of_videos, write_metrics, write_rows
from motionops.video import Video, read_frames
from motionops.video.lists import check_lists

_STRIP_QUERIES, _STRIP_NEIGHBOURS = 6, 5


def evaluate_retrieval(
    backbone: nn.Module,
    train: Sequence[Video],
    test: Sequence[Video],
    *,
    output: str | os.PathLike | None = None,
    ks: Sequence[int] = RECALL_AT,
    strict: bool = False,
    probe: bool = False,
    picture: str | os.PathLike | None = None,
    warn: Callable[[str], None] = print_warning,
    **settings,
) -> dict:
    """Retrieve each test video's class among the training videos; the end of every trainer's run.

    Args:
        backbone: as in :func:`~motionops.evaluation.extract_features`.
        train, test: labelled videos: the gallery and the queries.
        output: folder where ``metrics.json`` is written (made if need be, replaced in one step); None writes nothing.
        ks: the k of recall at k.
        strict: stop at the first video that cannot be used, instead of skipping up to a tenth of them.
        probe: add ``probe``, the accuracy of :func:`~motionops.evaluation.linear_probe` on the same features.
        picture: a PNG of queries and their nearest videos.
        warn: called with one line for each thing that makes the score mean less than it seems.
        settings: those of ``extract_features`` (clips, frames, stride, size, still, shuffle_frames, ...). With
            ``over_ranks`` all ranks of a process group call, extract together, and the first one does the rest.

    Returns:
        What ``metrics.json`` holds, scores in per cent: ``protocol``; ``R@k``; ``interval`` (95 % bootstrap interval
        over test videos for each ``R@k``); ``n_train``, ``n_test`` (videos used); ``classes``; ``chance`` (the R@1
        of random neighbours), ``chance_at`` (the same for each k), ``majority``; ``skipped`` and
        ``skipped_videos``; ``warnings``; ``settings``. Nothing in ranks other than the first.

    Raises:
        UserError: an empty list, a video without a label, no class in common, too many unusable videos.
    """
    ks = tuple(sorted(set(checked_ks(ks))))
    check_lists(train, test)
    warnings = split_warnings(train, test)

    train_set, test_set = (frozen_features(backbone, videos, strict=strict, **settings) for videos in (train, test))
    if only_helps(settings):
        return {}
    if max(ks) > len(train_set.videos):
        warnings.append(f"k above {len(train_set.videos)}, the number of training videos, means all of them")
    warnings += class_warnings(train_set.videos, test_set.videos, train, test)
    warnings += collapse_warnings(train_set.features, test_set.features)

    metrics, positions = retrieval_metrics(train_set, test_set, ks)
    if probe:
        groups = [recording(video.path) for video in train_set.videos]
        sets = (train_set.features, train_set.labels, test_set.features, test_set.labels)
        metrics["probe"] = linear_probe(*sets, groups=groups)
    metrics |= notes([*train_set.skipped, *test_set.skipped], warnings, settings)
    for line in warnings:
        warn(line)
    if output is not None:
        write_metrics(metrics, output)
        first = nearest_neighbours(test_set.features, train_set.features, 1)[:, 0].tolist()
        rows = [
            {"path": video.path, "label": video.label, "predicted": train_set.labels[neighbour]}
            | {f"R@{k}": int(position < k) for k in ks}
            for video, neighbour, position in zip(test_set.videos, first, positions.tolist(), strict=True)
        ]
        write_rows(rows, Path(output) / PREDICTIONS)
    if picture is not None:
        draw_strips(train_set, test_set, picture)
    return metrics


def retrieval_metrics(
    train_set: LabelledFeatures, test_set: LabelledFeatures, ks: Sequence[int] = RECALL_AT
) -> tuple[dict, Tensor]:
    """The scores of :func:`evaluate_retrieval`, of any features; and of each query the place of its first hit."""
    positions = first_hits(test_set.features, test_set.labels, train_set.features, train_set.labels)
    expected = chance_recall(test_set.labels, train_set.labels, (1, *ks))
    scores = {
        "protocol": "retrieval",
        **{f"R@{k}": 100.0 * float((positions < k).double().mean()) for k in ks},
        "interval": {f"R@{k}": list(bootstrap_interval(positions < k)) for k in ks},
        "n_train": len(train_set.videos),
        "n_test": len(test_set.videos),
        "classes": len(set(train_set.labels)),
        "chance": expected["R@1"],
        "chance_at": {f"R@{k}": expected[f"R@{k}"] for k in ks},
        "majority": majority_accuracy(test_set.labels, train_set.labels),
    }
    return scores, positions


def format_retrieval(metrics: dict) -> str:
    """The metrics of :func:`evaluate_retrieval` as a table for the terminal."""
    lines = [f"{'':<8}{'score':>8}{'95 % interval':>18}{'chance':>10}"]
    for name, (low, high) in metrics["interval"].items():
        lines.append(f"{name:<8}{metrics[name]:8.1f}{f'{low:.1f} - {high:.1f}':>18}{metrics['chance_at'][name]:10.1f}")
    if "probe" in metrics:
        lines.append(f"{'probe':<8}{metrics['probe']:8.1f}{'':>18}{metrics['majority']:10.1f}")
    return "\n".join([*lines, *said_of_videos(metrics)])


def draw_strips(train: LabelledFeatures, test: LabelledFeatures, picture: str | os.PathLike) -> None:
    """Draw some test videos and their nearest training videos."""

    # Spread over the list: lists are often sorted by class.
    chosen = torch.linspace(0, len(test.videos) - 1, min(_STRIP_QUERIES, len(test.videos))).long()
    order = nearest_neighbours(test.features[chosen], train.features, _STRIP_NEIGHBOURS)

    def shown(video: Video) -> tuple[Tensor, str]:
        return read_frames(video.path, [0])[0], video.label

    retrieval_strips(
        [shown(test.videos[i]) for i in chosen.tolist()],
        [[shown(train.videos[j]) for j in row] for row in order.tolist()],
        picture,
    )
