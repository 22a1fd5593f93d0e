"""A trainer whose checkpoints take a second to write, the first half of the bytes before it.

python tests/runs/run_on_a_slow_disk.py trainers/fima.py [FLAGS]
"""

import io
import sys
import time
from importlib import import_module
from pathlib import Path

import torch

from motionops.commandline import run

SECONDS = 1.0


def save_slowly(value, file, save=torch.save):
    whole = io.BytesIO()
    save(value, whole)
    half = len(whole.getbuffer()) // 2
    file.write(whole.getbuffer()[:half])
    file.flush()
    time.sleep(SECONDS)
    file.write(whole.getbuffer()[half:])


if __name__ == "__main__":
    script = Path(sys.argv.pop(1))
    torch.save = save_slowly
    trainer = import_module(f"trainers.{script.stem}")
    sys.exit(run(trainer.main, type(trainer.PRESETS["demo"]), trainer.PRESETS))
