"""``evaluate.py lowshot``: how much is left with a few labels."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from motionops.commandline import TRAINER_PARTS
from motionops.commands.evaluate.finetune import run_training
from motionops.commands.evaluate.flags import OF_A_TRAINING, OF_FEATURES, FrozenMeasurement, TrainingFlags, refuse_given
from motionops.commands.evaluate.inputs import (
    Inputs,
    frozen_settings,
    measurement_inputs,
    results_file,
    with_own_folder,
)
from motionops.commands.evaluate.outcome import publish
from motionops.evaluation.protocols.measure import evaluate_linear
from motionops.evaluation.written.metrics_file import write_metrics
from motionops.extras import require
from motionops.files import replace_text
from motionops.flags import Above
from motionops.training.output_folder import CONFIG, MARK
from motionops.video import Video

SHARES = (1.0, 5.0, 20.0, 40.0, 60.0, 80.0, 100.0)  # MoDist, table 6


@dataclass
class LowShot(TrainingFlags, FrozenMeasurement):
    """Learn from a few of the training videos: the same parts of every class, each part within the next."""

    output: Path = Path("runs/lowshot")
    """Folder for metrics.json, the curve, and a folder a share."""
    shares: Annotated[tuple[float, ...] | None, Above(0, 100)] = None
    """Per cent of each class's training videos, at least one; by default 1 5 20 40 60 80 100."""
    fit: Literal["finetune", "features"] = "finetune"
    """finetune: end to end, as MoDist does. features: logistic regression on frozen features."""


def measure_lowshot(config: LowShot) -> int:
    if config.fit == "finetune":
        require("fine-tuning", *TRAINER_PARTS)
        refuse_given(config, OF_FEATURES, "of --fit features; a fine-tuning runs on the GPU where there is one")
    else:
        trained = [name for name in OF_A_TRAINING if name not in ("resume", "overwrite")]
        refuse_given(config, trained, "of a fine-tuning; --fit features fits a layer to mean features")
    config = with_own_folder(config)
    inputs = measurement_inputs(config, "lowshot")
    shares = tuple(sorted(set(config.shares or inputs.settings.get("shares", SHARES))))
    replace_text(config.output / CONFIG, f"{MARK}\n")  # the shares' folders in it are runs
    found: dict[float, dict] = {}
    for share in shares:
        part = few_videos(inputs.train, share, config.seed)
        folder = config.output / f"share-{share:g}"
        print(f"{share:g} % of each class: {len(part)} of {len(inputs.train)} training videos")
        metrics = None
        if config.fit == "features":
            metrics = _fit_features(config, inputs, part, folder, share)
        else:
            status, metrics = run_training(
                config, inputs, protocol="lowshot", train=part, output=folder, more={"share": share}
            )
            if status:
                return status
        if metrics is not None:
            found[share] = metrics
            publish(dataclasses.replace(config, output=folder, results=results_file(config)), inputs, metrics)
    if found:
        write_metrics(lowshot_metrics(found), config.output)
        _draw(found, config.output)
    return 0


def few_videos(videos: Sequence[Video], share: float, seed: int) -> list[Video]:
    """``share`` per cent of the videos of each class, rounded, at least one; a smaller share is a part of a larger one.

    Which they are depends on the seed and the videos' folders and names, not on their order in the list.
    """
    by_class: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        by_class[video.label].append(video)
    chosen = set()
    for place, label in enumerate(sorted(by_class)):
        own = sorted(by_class[label], key=lambda video: Path(video.path).parts[-2:])
        order = np.random.default_rng((seed, place)).permutation(len(own))
        count = max(1, int(len(own) * share / 100 + 0.5))
        chosen |= {own[number] for number in order[:count]}
    return [video for video in videos if video in chosen]


def lowshot_metrics(found: dict[float, dict]) -> dict:
    """The scores of all shares; ``top1`` and the rest of the top level are those of the largest share."""
    largest = found[max(found)]
    kept = ("n_train", "top1", "top5", "mean_class", "interval", "chance", "majority")
    at = [{"share": share, **{name: metrics[name] for name in kept}} for share, metrics in found.items()]
    return {**largest, "protocol": "lowshot", "at": at}


def _fit_features(config: LowShot, inputs: Inputs, part: list[Video], folder: Path, share: float) -> dict:
    metrics = evaluate_linear(
        inputs.backbone,
        part,
        inputs.test,
        strict=config.strict,
        output=folder,
        fit_seed=config.seed,
        **frozen_settings(config, inputs.backbone, inputs.settings),
    )
    metrics = {"protocol": "lowshot", "share": share} | {k: v for k, v in metrics.items() if k != "protocol"}
    write_metrics(metrics, folder)
    return metrics


def _draw(found: dict[float, dict], folder: Path) -> None:
    from motionops.evaluation.pictures import score_curve

    points = [(share, m["top1"], *m["interval"]["top1"]) for share, m in found.items()]
    chance = found[max(found)]["chance"]
    score_curve(points, folder / "lowshot.png", x="per cent of the training videos", y="top-1", chance=chance)
