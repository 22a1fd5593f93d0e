"""What a trained classifier says of the test videos, and how right it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from motionops.commandline import warn
from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.evaluation.features.collapse import collapse_warnings
from motionops.evaluation.features.labelled_features import labelled_features
from motionops.evaluation.protocols.classification import (
    Classification,
    ClipProbabilities,
    classification_metrics,
    classification_warnings,
)
from motionops.evaluation.protocols.finetuning.classifier import SupervisedClassifier
from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
from motionops.evaluation.protocols.splits import class_warnings
from motionops.evaluation.written.metrics_file import notes
from motionops.training.data.videos import TrainingVideos
from motionops.video import Video


def measured(
    config: FinetuneConfig,
    module: SupervisedClassifier,
    videos: TrainingVideos,
    train_list: Sequence[Video],
    split: Sequence[str],
) -> tuple[Classification, dict[str, Any]]:
    """The test videos' scores, judged, and what metrics.json says of them and of the training behind its protocol.

    Args:
        train_list: as it was given, with the videos that were skipped.
        split: the warnings on the two lists that were given already.
    """
    result, test, settings = classify(config, module, videos)
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


def classify(
    config: FinetuneConfig, module: SupervisedClassifier, videos: TrainingVideos
) -> tuple[Classification, Any, dict[str, Any]]:
    """The test videos' scores, judged; the videos that they are of; the settings of their clips."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    own = {"crops": config.crops, "short": config.short, "sampling": config.sampling}
    settings = ClipRecipe.of_run(config, size=config.test_size or config.size, **own).settings()
    settings["workers"] = config.workers
    test = labelled_features(
        ClipProbabilities(module.to(device)),
        videos.test,
        strict=config.strict,
        **settings,
        precision=config.precision,
        device=device,
        progress=True,
    )
    # The classifier has a column for each class of the list; those whose videos were all skipped are no candidates.
    present = {video.label for video in videos.usable}
    kept = [place for place, name in enumerate(config.classes) if name in present]
    trained = ("epochs", "batch_size", "optimizer", "learning_rate", "weight_decay", "warmup_epochs", "dropout")
    trained += ("crop_area", "grayscale", "jitter", "blur", "mirror", "freeze", "pooling", "seed", "accumulate")
    trained += ("normalise", "nesterov", "clip_gradient", "rand_augment", "warmup_start", "regularise_motion")
    settings |= {name: getattr(config, name) for name in trained} | {"milestones": list(config.milestones)}
    settings["trained_size"] = config.size
    return classification_metrics(test.features[:, kept], test.videos, videos.usable), test, settings
