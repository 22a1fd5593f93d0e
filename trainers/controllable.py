"""Controllable Augmentations (Qian et al., ECCV 2022 workshop): python trainers/controllable.py [--data DIR] ..."""

from __future__ import annotations

import os
import sys

# Before torch loads OpenMP: its threads otherwise spin while they wait, on cores that the readers share.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from motionops.commandline import EXIT_USER_ERROR, TRAINER_PARTS, lacking, run

if lacking("trainers/controllable.py", *TRAINER_PARTS):
    sys.exit(EXIT_USER_ERROR)

from motionops.commands.paper_tables import rows_of
from motionops.evaluation.end_of_run import finish
from motionops.evaluation.monitoring import measure_epoch
from motionops.methods.controllable import PRESETS, Controllable, ControllableConfig, make_dataset
from motionops.training.run import train


def main(config: ControllableConfig) -> int:
    """Clips of videos into the method's losses, and the backbone measured when they are learnt from."""
    config.check_backbone()
    return train(config, Controllable.for_videos, make_dataset, finish, measure=measure_epoch)


if __name__ == "__main__":
    sys.exit(run(main, ControllableConfig, PRESETS, rows=rows_of("controllable")))
