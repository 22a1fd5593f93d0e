"""MCL, motion-focused contrastive learning (Li et al., ICCV 2021): python trainers/mcl.py [--data DIR] ..."""

from __future__ import annotations

import os
import sys

# Before torch loads OpenMP: its threads otherwise spin while they wait, on cores that the readers share.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from motionops.commandline import EXIT_USER_ERROR, TRAINER_PARTS, lacking, run

if lacking("trainers/mcl.py", *TRAINER_PARTS):
    sys.exit(EXIT_USER_ERROR)

from motionops.commands.paper_tables import rows_of
from motionops.evaluation.end_of_run import finish
from motionops.evaluation.monitoring import measure_epoch
from motionops.methods.mcl import MCL, PRESETS, MCLConfig, make_dataset
from motionops.training.run import train


def main(config: MCLConfig) -> int:
    """Views of videos into the method's losses, and the backbone measured when they are learnt from."""
    config.check_backbone()
    return train(config, MCL.for_videos, make_dataset, finish, measure=measure_epoch)


if __name__ == "__main__":
    sys.exit(run(main, MCLConfig, PRESETS, rows=rows_of("mcl")))
