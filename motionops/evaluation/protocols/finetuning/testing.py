"""What is judged of a trained classifier on the test videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from motionops.commandline import warn
from motionops.evaluation.features.collapse import collapse_warnings
from motionops.evaluation.protocols.classification import Classification, classification_warnings
from motionops.evaluation.protocols.finetuning.classifier import SupervisedClassifier
from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
from motionops.evaluation.protocols.finetuning.scoring import classify
from motionops.evaluation.protocols.splits import class_warnings
from motionops.evaluation.written.metrics_file import notes
from motionops.training.data.manifest import TrainingVideos
from motionops.video import Video


def measured(
    config: FinetuneConfig,
    module: SupervisedClassifier,
    videos: TrainingVideos,
    train_list: Sequence[Video],
    split: Sequence[str],
) -> tuple[Classification, dict[str, Any]] | None:
    """The test videos' scores, judged, and what metrics.json says of them and of the training behind its protocol.

    All processes of the run call, where they are a process group, and score a part each; None in all but the first.

    Args:
        train_list: as it was given, with the videos that were skipped.
        split: the warnings on the two lists that were given already.
    """
    classified = classify(config, module, videos)
    if classified is None:
        return None
    result, test, settings = classified
    warnings = class_warnings(videos.usable, test.videos, train_list, videos.test)
    warnings += classification_warnings(len({video.label for video in videos.usable}))
    warnings += collapse_warnings(test.features, what="scores")
    for line in warnings:
        warn(line)
    metrics = {
        **result.metrics,
        "training": {"steps": module.step, "epochs": config.epochs, **module.metrics},
        **notes([*videos.skipped, *module.failed, *test.skipped], [*split, *warnings], settings),
    }
    return result, metrics
