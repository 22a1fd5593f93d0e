"""A trainer with BatchNorm replaced by a norm over each sample: what a step computes then has no batch in it.

python tests/trainers/run_without_batchnorm.py trainers/fima.py [FLAGS]
"""

import os
import sys
from importlib import import_module
from pathlib import Path

from torch import nn

from motionops.commandline import run
from motionops.layers import batch_norm

# Lightning starts the other processes of a run with the command line that is left: they know the trainer by this.
TRAINER = "MOTIONOPS_TEST_TRAINER"


class SampleNorm(nn.GroupNorm):
    """In place of torch's BatchNorm3d and of ours, which adds a shortcut and has the ReLU."""

    def __init__(self, channels: int, relu: bool = False) -> None:
        super().__init__(1, channels)
        self.relu = relu

    def forward(self, input, residual=None):
        output = super().forward(input)
        if residual is not None:
            output = output + residual
        return output.relu() if self.relu else output


if __name__ == "__main__":
    if TRAINER not in os.environ:
        os.environ[TRAINER] = sys.argv.pop(1)
    folder, name = Path(os.environ[TRAINER]).parent, Path(os.environ[TRAINER]).stem
    sys.path.insert(0, str(folder))
    nn.BatchNorm3d = batch_norm.BatchNorm3d = SampleNorm  # before the networks are imported
    trainer = import_module(name)
    sys.exit(run(trainer.main, type(trainer.PRESETS["demo"]), trainer.PRESETS))
