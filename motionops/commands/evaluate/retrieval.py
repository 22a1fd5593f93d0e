"""``evaluate.py retrieval``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from motionops.commandline import writable_folder
from motionops.commands.evaluate.flags import FrozenMeasurement, refuse_given
from motionops.commands.evaluate.inputs import measurement_inputs
from motionops.commands.evaluate.outcome import publish
from motionops.commands.evaluate.settings import frozen_settings
from motionops.evaluation.protocols.measure_retrieval import evaluate_retrieval
from motionops.extras import require
from motionops.flags import AtLeast


@dataclass
class Retrieval(FrozenMeasurement):
    """Nearest neighbours: how often one of the k nearest training videos has the test video's class."""

    output: Path = Path("runs/retrieval")
    """Folder for metrics.json and predictions.csv."""
    ks: Annotated[tuple[int, ...], AtLeast(1)] = (1, 5, 10, 20)
    """Neighbours that count."""
    probe: bool = False
    """Also fit a linear classifier to the same features."""
    still: bool = False
    """Repeat each clip's middle frame: what do the features say without motion?"""
    shuffle_frames: bool = False
    """Put each clip's frames in random order: what do the features say without order?"""
    picture: Path | None = None
    """PNG of some queries and their nearest videos."""


def measure_retrieval(config: Retrieval) -> None:
    if config.still:
        refuse_given(config, ("shuffle_frames",), "the frames of --still are all one")
    # What comes after the features is checked before them: they may take hours.
    if config.picture is not None:
        writable_folder(config.picture.parent, "--picture")
        require("--picture", "matplotlib")
    inputs = measurement_inputs(config, "retrieval")
    metrics = evaluate_retrieval(
        inputs.backbone,
        inputs.train,
        inputs.test,
        output=config.output,
        ks=config.ks,
        strict=config.strict,
        probe=config.probe,
        picture=config.picture,
        **frozen_settings(config, inputs.backbone, inputs.settings),
        still=config.still,
        shuffle_frames=config.shuffle_frames,
        seed=config.seed,
    )
    publish(config, inputs, metrics)
