"""``evaluate.py linear`` and ``evaluate.py svm``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from motionops.commands.evaluate.flags import OF_A_TRAINING, OF_FEATURES, FrozenMeasurement, TrainingFlags, refuse_given
from motionops.commands.evaluate.folders import with_own_folder
from motionops.commands.evaluate.inputs import Inputs, measurement_inputs
from motionops.commands.evaluate.outcome import publish
from motionops.commands.evaluate.settings import frozen_settings
from motionops.evaluation.protocols.linear import Kind
from motionops.evaluation.protocols.measure_linear import evaluate_linear
from motionops.evaluation.protocols.papers import protocol_settings
from motionops.extras import require
from motionops.flags import POSITIVE


@dataclass
class SVM(FrozenMeasurement):
    """Linear support vector machine on frozen features, a mean over the clips of each video."""

    output: Path = Path("runs/svm")
    """Folder for metrics.json, predictions.csv, classes.csv and the confusion matrix."""
    C: Annotated[float | None, POSITIVE] = None
    """C of the fit; by default the best of 0.001 to 10 by cross-validation on the training videos."""


@dataclass
class Linear(TrainingFlags, FrozenMeasurement):
    """Linear classifier on a frozen backbone: fitted to its features, or trained on augmented clips."""

    output: Path = Path("runs/linear")
    """Folder for metrics.json, predictions.csv, classes.csv and the confusion matrix."""
    fit: Literal["features", "sgd", "attentive"] | None = None
    """features: logistic regression on each video's mean feature (default). sgd: a layer trained on augmented clips.
    attentive: the same behind a learnt query that gathers the map's cells, as V-JEPA is probed."""
    C: Annotated[float | None, POSITIVE] = None
    """C of the logistic regression; by default the best of 0.001 to 10 by cross-validation on the training videos."""


def measure_svm(config: SVM) -> None:
    require("the linear SVM", "sklearn")
    inputs = measurement_inputs(config, "svm")
    publish(config, inputs, fit_to_features(config, inputs, "svm"))


def measure_linear(config: Linear) -> int:
    fit = config.fit or protocol_settings(config.protocol, "linear").get("fit", "features")
    if fit == "features":
        refuse_given(config, OF_A_TRAINING, "of a layer that is trained; --fit features fits one to mean features")
    else:
        refuse_given(config, OF_FEATURES, f"of --fit features; --fit {fit} trains on clips, on the GPU if there is one")
        refuse_given(config, ("C",), f"is of --fit features; --fit {fit} has --weight-decay")
    inputs = measurement_inputs(config, "linear")
    if fit == "features":
        publish(config, inputs, fit_to_features(config, inputs, "logistic"))
        return 0
    from motionops.commands.evaluate.supervised import run_training  # which needs lightning

    config = with_own_folder(config)
    status, metrics = run_training(
        config, inputs, protocol="linear", freeze=True, pooling="attentive" if fit == "attentive" else "mean"
    )
    if metrics is not None:
        publish(config, inputs, metrics)
    return status


def fit_to_features(config: SVM | Linear, inputs: Inputs, kind: Kind) -> dict:
    return evaluate_linear(
        inputs.backbone,
        inputs.train,
        inputs.test,
        kind=kind,
        C=config.C,
        output=config.output,
        strict=config.strict,
        fit_seed=config.seed,
        **frozen_settings(config, inputs.backbone, inputs.settings),
    )
