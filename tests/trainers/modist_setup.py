"""A tiny MoDist: a run of 12 steps takes seconds."""

from dataclasses import replace

import modist

TINY = {
    "batch_size": 4,
    "size": 16,
    "epochs": 3,
    "queue": 16,
    "hidden": 16,
    "dim": 16,
    "frames": 4,
    "motion_frames": 4,
    "motion": "frame-difference",
    "gamma": 0.0,
    "workers": 0,
    "log_every": 1,
    "evaluation_clips": 1,
}


def tiny(shapes, output, **changes):
    own = {"data": shapes, "list": shapes / "train.txt", "output": output, **TINY}
    return replace(modist.MoDistConfig(), **{**own, **changes})
