"""A trainer with BatchNorm replaced by a norm over each sample.

python tests/runs/run_without_batchnorm.py trainers/fima.py [FLAGS]
"""

import os
import sys
from importlib import import_module
from pathlib import Path

from motionops.commandline import run
from tests.runs.sample_norm import put_in_place

# Lightning starts the other processes of a run with the command line that is left: they know the trainer by this.
TRAINER = "MOTIONOPS_TEST_TRAINER"


if __name__ == "__main__":
    if TRAINER not in os.environ:
        os.environ[TRAINER] = sys.argv.pop(1)
    put_in_place()
    trainer = import_module(f"trainers.{Path(os.environ[TRAINER]).stem}")
    sys.exit(run(trainer.main, type(trainer.PRESETS["demo"]), trainer.PRESETS))
