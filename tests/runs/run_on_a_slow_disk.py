"""A trainer whose checkpoints take three steps to write, the first half of the bytes before them.

python tests/runs/run_on_a_slow_disk.py trainers/fima.py [FLAGS]
"""

import io
import sys
import time
from importlib import import_module
from pathlib import Path

import torch

from motionops.commandline import run

STEPS = 3
PATIENCE = 2.0  # seconds in which no step is logged: the run itself waits for the file


def let_steps_pass(metrics):
    """However long a step takes on the machine."""
    begin = steps = len(metrics.read_text().splitlines())
    end = time.monotonic() + PATIENCE
    while steps < begin + STEPS and time.monotonic() < end:
        time.sleep(0.01)
        now = len(metrics.read_text().splitlines())
        if now > steps:
            steps, end = now, time.monotonic() + PATIENCE


def save_slowly(value, file, save=torch.save):
    whole = io.BytesIO()
    save(value, whole)
    half = len(whole.getbuffer()) // 2
    file.write(whole.getbuffer()[:half])
    file.flush()
    let_steps_pass(Path(file.name).with_name("metrics.csv"))
    file.write(whole.getbuffer()[half:])


if __name__ == "__main__":
    script = Path(sys.argv.pop(1))
    torch.save = save_slowly
    trainer = import_module(f"trainers.{script.stem}")
    sys.exit(run(trainer.main, type(trainer.PRESETS["demo"]), trainer.PRESETS))
