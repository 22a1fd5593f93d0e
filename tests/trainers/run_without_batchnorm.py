"""A trainer with BatchNorm replaced by a norm over each sample: what a step computes then has no batch in it.

python tests/trainers/run_without_batchnorm.py trainers/fima.py [FLAGS]
"""

import os
import sys
from importlib import import_module
from pathlib import Path

from torch import nn

from motionops.commandline import run

# Lightning starts the other processes of a run with the command line that is left: they know the trainer by this.
TRAINER = "MOTIONOPS_TEST_TRAINER"


class SampleNorm(nn.GroupNorm):
    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)


if __name__ == "__main__":
    if TRAINER not in os.environ:
        os.environ[TRAINER] = sys.argv.pop(1)
    folder, name = Path(os.environ[TRAINER]).parent, Path(os.environ[TRAINER]).stem
    sys.path.insert(0, str(folder))
    nn.BatchNorm3d = SampleNorm
    trainer = import_module(name)
    sys.exit(run(trainer.main, type(trainer.PRESETS["demo"]), trainer.PRESETS))
