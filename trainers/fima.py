"""FIMA, fine-grained motion alignment (Zhu et al., ACM MM 2023): python trainers/fima.py [--data DIR] ..."""

from __future__ import annotations

import os
import sys

# Before torch loads OpenMP. Its threads otherwise spin while they wait, which on cores that are shared, be it only with
# the processes that decode, made a step of the demo five to ten times slower (2 cores, load 7).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from motionops.commandline import EXIT_USER_ERROR, TRAINER_PARTS, lacking, run

if lacking("trainers/fima.py", *TRAINER_PARTS):
    sys.exit(EXIT_USER_ERROR)

from motionops.commands.paper_tables import rows_of
from motionops.evaluation.end_of_run import finish
from motionops.evaluation.monitoring import measure_epoch
from motionops.methods.fima import FIMA, PRESETS, FIMAConfig, make_dataset
from motionops.training.run import train


def main(config: FIMAConfig) -> int:
    """Views of videos into the method's losses, and the backbone measured when they are learnt from."""
    config.check_backbone()
    return train(config, FIMA.for_videos, make_dataset, finish, measure=measure_epoch)


if __name__ == "__main__":
    sys.exit(run(main, FIMAConfig, PRESETS, rows=rows_of("fima")))
