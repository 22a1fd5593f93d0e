"""``evaluate.py finetune``, and the supervised training that ``linear`` and ``lowshot`` share with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from motionops.commandline import TRAINER_PARTS
from motionops.commands.evaluate.flags import Measurement, TrainingFlags
from motionops.commands.evaluate.inputs import (
    Inputs,
    chosen_precision,
    default_clips,
    measurement_inputs,
    require_frames,
    with_own_folder,
)
from motionops.commands.evaluate.outcome import publish
from motionops.errors import UserError
from motionops.extras import require
from motionops.flags import AtLeast
from motionops.video import Video, class_names
from motionops.views.even_clips import CENTRE_CROP


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
    require("fine-tuning", *TRAINER_PARTS)
    config = with_own_folder(config)
    inputs = measurement_inputs(config, "finetune")
    status, metrics = run_training(config, inputs, protocol="finetune")
    if metrics is not None:
        publish(config, inputs, metrics)
    return status


def run_training(
    config: Measurement,
    inputs: Inputs,
    *,
    protocol: str,
    freeze: bool = False,
    pooling: str = "mean",
    train: Sequence[Video] | None = None,
    output: Path | None = None,
    more: dict | None = None,
) -> tuple[int, dict | None]:
    """Train and measure as the flags say, or for low-shot on a part of the videos, in a folder of its own.

    Returns:
        As :func:`motionops.evaluation.protocols.finetune.finetune`.
    """
    require("a supervised training", *TRAINER_PARTS)
    from motionops.evaluation.protocols.finetune import finetune
    from motionops.evaluation.protocols.finetune_config import FinetuneConfig

    if getattr(config, "device", "auto") != "auto":
        raise UserError("--device: a training runs on the GPU where there is one; CUDA_VISIBLE_DEVICES= hides it")
    require_frames(inputs, config.backbone)
    stated = inputs.settings
    fields = {field.name for field in dataclasses.fields(FinetuneConfig)}
    given = {name: value for name in fields if (value := getattr(config, name, None)) is not None}
    settings = {name: value for name, value in stated.items() if name in fields} | given
    train = list(inputs.train if train is None else train)
    precision = chosen_precision(config.precision, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    settings |= {
        "preset": config.protocol or "",
        "data": config.data,
        "output": config.output if output is None else output,
        "freeze": freeze,
        "pooling": pooling,
        "evaluation_clips": stated.get("clips", default_clips(stated)),
        "evaluation_crop": stated.get("crop", CENTRE_CROP),
        "precision": precision,
        "classes": tuple(class_names(train)),
        "weights": inputs.fingerprint,
    }
    # Clips are the flags' over the protocol's over the backbone's, as they were merged.
    sampled = ("frames", "stride", "size", "crops", "short", "sampling")
    settings |= {name: stated[name] for name in sampled if name in stated}
    regulariser = None
    if settings.get("regularise_motion"):
        from motionops.methods.context_motion.regulariser import MotionRegulariser as regulariser
    tuned = FinetuneConfig(**settings)
    return finetune(tuned, train, inputs.test, protocol=protocol, more=more, regulariser=regulariser)
