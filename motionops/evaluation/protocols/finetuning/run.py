"""Supervised training on top of a backbone, with the machinery of the five methods: resumable, on any devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from motionops.commandline import warn
from motionops.errors import UserError
from motionops.evaluation.protocols.finetuning.classifier import Regulariser, SupervisedClassifier
from motionops.evaluation.protocols.finetuning.clips import make_dataset
from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
from motionops.evaluation.protocols.finetuning.kept import guard_backbone, keep
from motionops.evaluation.protocols.finetuning.testing import measured
from motionops.evaluation.protocols.splits import split_warnings
from motionops.training.data.videos import TrainingVideos, checked
from motionops.training.run import train
from motionops.video import Video, VideoDataset
from motionops.video.lists import check_lists


def finetune(
    config: FinetuneConfig,
    train_list: Sequence[Video],
    test_list: Sequence[Video],
    *,
    protocol: str = "finetune",
    more: dict[str, Any] | None = None,
    regulariser: type[Regulariser] | None = None,
) -> tuple[int, dict | None]:
    """Train a classifier on labelled videos and classify the test videos, each by the mean over its clips' softmax.

    Args:
        config: everything else; ``classes`` is filled in here. Its ``output`` gets what the methods' trainers write
            (last.ckpt, metrics.csv, ...) and ``backbone.safetensors`` (of this library's networks),
            ``classifier.pt`` (the layer and its classes), ``metrics.json``, ``predictions.csv``, ``classes.csv``,
            ``confusion.csv`` and ``confusion.png``.
        train_list, test_list: labelled videos. Those that cannot be used are skipped, up to a tenth of them.
        protocol: its name in metrics.json.
        more: goes into metrics.json, behind the protocol.
        regulariser: adds its loss, weighted by ``config.regularise_motion``.

    Returns:
        Exit status as of :func:`motionops.training.run.train`, and what metrics.json holds (None where the run was
        stopped, and in all processes but the first).

    Raises:
        UserError: what the user can mend.
    """
    config.check()
    check_lists(train_list, test_list)
    if len({video.label for video in train_list}) < 2:
        raise UserError("a classifier needs two classes with training videos, got 1")
    guard_backbone(config)
    split = split_warnings(train_list, test_list)
    found: list[dict] = []

    window = config.window() if regulariser is None else regulariser.window(config)
    least = 1 if config.short == "hold" else window

    def find(_: FinetuneConfig, progress: bool) -> TrainingVideos:
        usable, skipped = checked(config, train_list, None, progress, least)
        if progress:
            for line in split:
                warn(line)
        return TrainingVideos(usable, skipped, list(test_list))

    def conclude(config: FinetuneConfig, module: SupervisedClassifier, videos: TrainingVideos, _: VideoDataset) -> None:
        judged = measured(config, module, replace(videos, test=list(test_list)), train_list, split)
        if judged is None:
            return
        result, metrics = judged
        metrics = {"protocol": protocol, **(more or {}), **metrics}
        keep(config, module, result, metrics)
        found.append(metrics)

    def build(config: FinetuneConfig, _: TrainingVideos) -> SupervisedClassifier:
        return SupervisedClassifier(config, regulariser)

    def dataset(config: FinetuneConfig, videos: TrainingVideos) -> VideoDataset:
        if regulariser is None:
            return make_dataset(config, videos)
        made = regulariser.make_dataset(config, videos)
        made.least_frames = window if config.short == "hold" else 0
        return made

    status = train(config, build, dataset, conclude, find)
    return status, found[0] if found else None
