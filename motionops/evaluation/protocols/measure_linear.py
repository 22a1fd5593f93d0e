"""Linear classifiers on frozen features as a whole: from a backbone and two lists to ``metrics.json``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from torch import nn

from motionops.commandline import warn as print_warning
from motionops.evaluation.features.collapse import collapse_warnings
from motionops.evaluation.features.frozen_features import frozen_features
from motionops.evaluation.features.labelled_features import only_helps
from motionops.evaluation.protocols.classification import classification_metrics, classification_warnings
from motionops.evaluation.protocols.linear import Kind, fit_linear
from motionops.evaluation.protocols.splits import class_warnings, recording, split_warnings
from motionops.evaluation.written.metrics_file import notes, write_metrics
from motionops.evaluation.written.report_files import write_classification
from motionops.video import Video, class_names
from motionops.video.lists import check_lists


def evaluate_linear(
    backbone: nn.Module,
    train: Sequence[Video],
    test: Sequence[Video],
    *,
    kind: Kind = "logistic",
    C: float | None = None,
    output: str | os.PathLike | None = None,
    strict: bool = False,
    fit_seed: int = 0,
    warn: Callable[[str], None] = print_warning,
    **settings,
) -> dict:
    """Fit a linear classifier to the training videos' frozen features, and classify the test videos.

    Args:
        backbone, train, test, strict, warn, settings: as of :func:`~motionops.evaluation.evaluate_retrieval`.
        kind: "logistic", multinomial logistic regression (protocol "linear"); or "svm", the linear support vector
            machine (protocol "svm"; MCL, section 4.2, on the mean feature of 20 clips).
        C: of the fit, as scikit-learn's; None chooses it by cross-validation on the training videos
            (:mod:`motionops.evaluation.protocols.linear`).
        output: folder for ``metrics.json``, ``predictions.csv``, ``classes.csv``, ``confusion.csv`` and
            ``confusion.png``; None writes nothing.
        fit_seed: of the folds of that cross-validation.

    Returns:
        What ``metrics.json`` holds, scores in per cent: ``protocol``, ``top1``, ``top5``, ``mean_class``, ``interval``,
        ``n_train``, ``n_test``, ``classes``, ``chance``, ``chance_at``, ``majority``, ``C``, ``skipped``,
        ``skipped_videos``, ``warnings``, ``settings``. Nothing in ranks other than the first.

    Raises:
        UserError: as of :func:`~motionops.evaluation.evaluate_retrieval`; fewer than two classes to learn.
    """

    check_lists(train, test)
    warnings = split_warnings(train, test)
    for line in () if only_helps(settings) else warnings:
        warn(line)  # now: who sees that recordings leak need not wait for the features
    train_set, test_set = (frozen_features(backbone, videos, strict=strict, **settings) for videos in (train, test))
    if only_helps(settings):
        return {}
    classes = class_names(train_set.videos)
    groups = [recording(video.path) for video in train_set.videos]
    machine = fit_linear(train_set.features, train_set.labels, classes, kind=kind, C=C, groups=groups, seed=fit_seed)
    result = classification_metrics(machine.scores(test_set.features), test_set.videos, train_set.videos)
    later = class_warnings(train_set.videos, test_set.videos, train, test) + classification_warnings(len(classes))
    later += collapse_warnings(train_set.features, test_set.features)
    for line in later:
        warn(line)
    metrics = {
        "protocol": "linear" if kind == "logistic" else "svm",
        **result.metrics,
        "C": machine.C,
        "C_from": "given" if C else "cross-validation" if machine.chosen else "default: nothing to choose by",
        **notes([*train_set.skipped, *test_set.skipped], [*warnings, *later], settings),
    }
    if output is not None:
        write_metrics(metrics, output)
        write_classification(result, output)
    return metrics
