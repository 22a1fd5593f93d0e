"""A defect during training ends the program, though its readers ignore SIGTERM."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning")

PROGRAM = """
from torch.utils.data import DataLoader
from motionops.training.data.loading import end_workers, prepare_worker

batches = iter(DataLoader(range(1000), batch_size=2, num_workers=8, worker_init_fn=prepare_worker))
try:
    next(batches)
    raise KeyError("a defect")
finally:
    end_workers()
"""


def test_a_defect_does_not_hang():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 1
    # Nothing after it: a reader's death must not interrupt the killing of the others.
    assert done.stderr.splitlines()[-1] == "KeyError: 'a defect'", done.stderr
