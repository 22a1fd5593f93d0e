"""trainers/controllable.py with BatchNorm replaced by a norm over each sample: a step has no batch statistics in it."""

import sys
from pathlib import Path

from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "trainers"))

import controllable

from motionops.commandline import run


class SampleNorm(nn.GroupNorm):
    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)


nn.BatchNorm3d = SampleNorm

if __name__ == "__main__":
    sys.exit(run(controllable.main, controllable.ControllableConfig, controllable.PRESETS))
