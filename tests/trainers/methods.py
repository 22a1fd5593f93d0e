"""A small run of each method, by the name of its trainer. No dropout: its draws are another on each kind of device."""

from dataclasses import replace
from importlib import import_module

SMALL = {"batch_size": 4, "size": 16, "frames": 4, "epochs": 2, "hidden": 16, "dim": 16, "workers": 0, "log_every": 1}
QUEUE = {"queue": 16}
# name -> its configuration, and flags that make it small
METHODS = {
    "fima": (
        "FIMAConfig",
        QUEUE | {"frames": 8, "decoder_width": 16, "decoder_feedforward": 16, "decoder_dropout": 0.0},
    ),
    "mcl": ("MCLConfig", QUEUE | {"size": 32}),
    "modist": ("MoDistConfig", QUEUE | {"motion": "frame-difference", "motion_frames": 4, "gamma": 0.0}),
    "controllable": ("ControllableConfig", {"stride": 1, "clips": 2, "global_cells": 4, "drawn_levels": 2}),
    "context_motion": (
        "ContextMotionConfig",
        {"motion_frames": 4, "width": 16, "feedforward": 16, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0},
    ),
}


def small_run(name, shapes, output, **changes):
    """The trainer's module, and the configuration of a run of 8 steps."""
    trainer, (config, own) = import_module(name), METHODS[name]
    given = {"data": shapes, "list": shapes / "train.txt", "output": output, **SMALL, **own, **changes}
    return trainer, replace(getattr(trainer, config)(), **given)
