"""``evaluate.py lowshot``: how much is left with a few labels."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from motionops.commands.evaluate.flags import OF_A_TRAINING, OF_FEATURES, FrozenMeasurement, TrainingFlags, refuse_given
from motionops.commands.evaluate.folders import hold_runs, results_file, with_own_folder
from motionops.commands.evaluate.inputs import Inputs, measurement_inputs
from motionops.commands.evaluate.outcome import publish
from motionops.commands.evaluate.settings import frozen_settings
from motionops.commands.evaluate.supervised import require_trainer_parts, run_training
from motionops.evaluation.protocols.low_shot import SHARES, draw_lowshot, few_videos, lowshot_metrics
from motionops.evaluation.protocols.measure_linear import evaluate_linear
from motionops.evaluation.written.metrics_file import write_metrics
from motionops.flags import Above
from motionops.video import Video


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
        require_trainer_parts()
        refuse_given(config, OF_FEATURES, "of --fit features; a fine-tuning runs on the GPU where there is one")
    else:
        trained = [name for name in OF_A_TRAINING if name not in ("resume", "overwrite")]
        refuse_given(config, trained, "of a fine-tuning; --fit features fits a layer to mean features")
    config = with_own_folder(config)
    inputs = measurement_inputs(config, "lowshot")
    shares = tuple(sorted(set(config.shares or inputs.settings.get("shares", SHARES))))
    hold_runs(config.output)
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
        if metrics:
            found[share] = metrics
            publish(dataclasses.replace(config, output=folder, results=results_file(config)), inputs, metrics)
    if found:
        write_metrics(lowshot_metrics(found), config.output)
        draw_lowshot(found, config.output)
    return 0


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
    if not metrics:  # in processes that only help the first
        return {}
    metrics = {"protocol": "lowshot", "share": share} | {k: v for k, v in metrics.items() if k != "protocol"}
    write_metrics(metrics, folder)
    return metrics
