"""trainers/context_motion.py with BatchNorm replaced by a norm over each sample: a step then has no batch in it."""

import sys
from pathlib import Path

from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "trainers"))

import context_motion

from motionops.commandline import run


class SampleNorm(nn.GroupNorm):
    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)


nn.BatchNorm3d = SampleNorm

if __name__ == "__main__":
    sys.exit(run(context_motion.main, context_motion.ContextMotionConfig, context_motion.PRESETS))
