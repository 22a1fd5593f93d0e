"""MoCo, momentum contrast (He et al., CVPR 2020): python trainers/moco.py [--data DIR] ..."""

from __future__ import annotations

import os
import sys

# Before torch loads OpenMP. Its threads otherwise spin while they wait, which on cores that are shared, be it only with
# the processes that decode, made a step of the demo five to ten times slower (2 cores, load 7).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from motionops.commandline import EXIT_USER_ERROR, TRAINER_PARTS, lacking, run

if lacking("trainers/moco.py", *TRAINER_PARTS):
    sys.exit(EXIT_USER_ERROR)

from motionops.commands.paper_tables import rows_of
from motionops.evaluation.end_of_run import finish
from motionops.evaluation.monitoring import measure_epoch
from motionops.methods.moco import PRESETS, MoCo, MoCoConfig
from motionops.training.data.two_views import two_views
from motionops.training.run import train


def main(config: MoCoConfig) -> int:
    """Views of videos into the method's losses, and the backbone measured when they are learnt from."""
    config.check_backbone()
    return train(config, MoCo.for_videos, two_views, finish, measure=measure_epoch)


if __name__ == "__main__":
    sys.exit(run(main, MoCoConfig, PRESETS, rows=rows_of("moco")))
