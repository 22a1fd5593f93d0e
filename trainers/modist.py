"""MoDist, motion distillation (Xiao, Tighe, Modolo, 2021): python trainers/modist.py [--data DIR] ..."""

from __future__ import annotations

import os
import sys

# Before torch loads OpenMP: its threads otherwise spin while they wait, on cores that the readers share.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from motionops.commandline import EXIT_USER_ERROR, TRAINER_PARTS, lacking, run

if lacking("trainers/modist.py", *TRAINER_PARTS):
    sys.exit(EXIT_USER_ERROR)

from motionops.commands.paper_tables import rows_of
from motionops.evaluation.end_of_run import finish
from motionops.evaluation.monitoring import measure_epoch
from motionops.methods.modist import PRESETS, MoDist, MoDistConfig, make_dataset
from motionops.training.run import train


def main(config: MoDistConfig) -> int:
    """Clips of videos and their motion into the method's losses; the backbone is measured when they are learnt from."""
    config.check_backbone()
    return train(config, MoDist.for_videos, make_dataset, finish, measure=measure_epoch)


if __name__ == "__main__":
    sys.exit(run(main, MoDistConfig, PRESETS, rows=rows_of("modist")))
