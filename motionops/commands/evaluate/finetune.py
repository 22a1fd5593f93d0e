"""``evaluate.py finetune``: backbone and classifier, trained end to end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from motionops.commands.evaluate.flags import Measurement, TrainingFlags
from motionops.commands.evaluate.folders import with_own_folder
from motionops.commands.evaluate.inputs import measurement_inputs
from motionops.commands.evaluate.outcome import publish
from motionops.commands.evaluate.supervised import require_trainer_parts, run_training
from motionops.flags import AtLeast


@dataclass
class Finetune(TrainingFlags, Measurement):
    """Train backbone and classifier end to end, and classify the test videos."""

    output: Path = Path("runs/finetune")
    """Folder for last.ckpt, backbone.safetensors, classifier.pt, metrics.json, metrics.csv and the confusion matrix."""
    batch_size: Annotated[int | None, AtLeast(2)] = None
    """Videos a step, over all devices; by default 16."""
    regularise_motion: float = 0.0
    """Weight of motion prediction beside the classifier's loss (Context-Motion Decoupling, Table 6); 0: none. The
    training videos' codec must have motion vectors."""


def measure_finetune(config: Finetune) -> int:
    require_trainer_parts()
    config = with_own_folder(config)
    inputs = measurement_inputs(config, "finetune")
    status, metrics = run_training(config, inputs, protocol="finetune")
    if metrics is not None:
        publish(config, inputs, metrics)
    return status
