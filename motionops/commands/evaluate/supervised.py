"""The supervised training that ``finetune``, ``linear`` and ``lowshot`` share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from motionops.commandline import TRAINER_PARTS
from motionops.commands.evaluate.flags import Measurement, refuse_given, refuse_idle_clips
from motionops.commands.evaluate.inputs import Inputs, require_frames
from motionops.commands.evaluate.settings import chosen_precision, default_clips
from motionops.errors import UserError
from motionops.extras import require
from motionops.flags import idle
from motionops.video import Video, class_names
from motionops.views.even_clips import CENTRE_CROP


def require_trainer_parts() -> None:
    """UserError where a library is missing that a training needs: before anything is read."""
    require("fine-tuning", *TRAINER_PARTS)


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
        As :func:`motionops.evaluation.protocols.finetuning.run.finetune`.
    """
    require("a supervised training", *TRAINER_PARTS)
    from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
    from motionops.evaluation.protocols.finetuning.run import finetune

    if getattr(config, "device", "auto") != "auto":
        raise UserError("--device: a training runs on the GPU where there is one; CUDA_VISIBLE_DEVICES= hides it")
    require_frames(inputs, config.backbone)
    stated = inputs.settings
    refuse_idle_clips(config, stated)
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
        if settings.get("sampling") == "segments":
            raise UserError("--sampling segments: --regularise-motion predicts what follows a clip of the video")
        from motionops.methods.context_motion.regulariser import MotionRegulariser as regulariser
    tuned = FinetuneConfig(**settings)
    for name, words in idle(tuned).items():
        refuse_given(config, (name,), f"says something with {words} alone, which is not so here")
    return finetune(tuned, train, inputs.test, protocol=protocol, more=more, regulariser=regulariser)
