"""``evaluate.py linear`` and ``evaluate.py svm``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from motionops.commands.evaluate.flags import FrozenMeasurement, TrainingFlags
from motionops.commands.evaluate.inputs import Inputs, frozen_settings, measurement_inputs, with_own_folder
from motionops.commands.evaluate.outcome import publish
from motionops.errors import UserError
from motionops.evaluation.protocols.linear import Kind
from motionops.evaluation.protocols.measure import evaluate_linear
from motionops.extras import require


@dataclass
class SVM(FrozenMeasurement):
    """Linear support vector machine on frozen features, a mean over the clips of each video."""

    output: Path = Path("runs/svm")
    """Folder for metrics.json, predictions.csv, classes.csv and the confusion matrix."""
    strength: float | None = None
    """C of the fit; by default the best of 0.001 to 10 by cross-validation on the training videos."""


@dataclass
class Linear(TrainingFlags, FrozenMeasurement):
    """Linear classifier on a frozen backbone: fitted to its features, or trained on augmented clips."""

    output: Path = Path("runs/linear")
    """Folder for metrics.json, predictions.csv, classes.csv and the confusion matrix."""
    fit: Literal["features", "sgd"] | None = None
    """features: logistic regression on each video's mean feature (default). sgd: a layer trained on augmented clips."""
    strength: float | None = None
    """C of the logistic regression; by default the best of 0.001 to 10 by cross-validation on the training videos."""


def measure_svm(config: SVM) -> None:
    require("the linear SVM", "sklearn")
    inputs = measurement_inputs(config, "svm")
    publish(config, inputs, fit_to_features(config, inputs, "svm"))


def measure_linear(config: Linear) -> int:
    inputs = measurement_inputs(config, "linear")
    if (config.fit or inputs.settings.get("fit", "features")) == "features":
        publish(config, inputs, fit_to_features(config, inputs, "logistic"))
        return 0
    from motionops.commands.evaluate.finetune import run_training  # which needs lightning

    if config.strength is not None:
        raise UserError("--strength: is of --fit features; --fit sgd has --weight-decay")
    config = with_own_folder(config)
    status, metrics = run_training(config, inputs, protocol="linear", freeze=True)
    if metrics is not None:
        publish(config, inputs, metrics)
    return status


def fit_to_features(config: SVM | Linear, inputs: Inputs, kind: Kind) -> dict:
    if config.strength is not None and not 0 < config.strength < float("inf"):
        raise UserError(f"--strength: must be positive, got {config.strength}")
    return evaluate_linear(
        inputs.backbone,
        inputs.train,
        inputs.test,
        kind=kind,
        strength=config.strength,
        output=config.output,
        strict=config.strict,
        fit_seed=config.seed,
        **frozen_settings(config, inputs),
    )
