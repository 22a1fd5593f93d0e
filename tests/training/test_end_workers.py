"""A defect or a signal ends the program, though its readers ignore SIGTERM, or sleep."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("lightning")
from torch.utils.data import DataLoader

from motionops.training.checkpoint import Interrupted, LastCheckpoint
from motionops.training.data.ending import end_workers
from motionops.training.data.loading import prepare_worker

READERS = 4
AT_THE_END = 5.0  # seconds that DataLoader waits for each reader (torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL)


class Sleeping:
    """Items on a disk that hangs."""

    def __len__(self):
        return 100

    def __getitem__(self, index):
        time.sleep(600)


def test_a_signal_does_not_wait_for_readers_that_sleep(tmp_path):
    strategy = SimpleNamespace(checkpoint_io=SimpleNamespace(wait=lambda: None))
    batches = iter(DataLoader(Sleeping(), batch_size=2, num_workers=READERS, worker_init_fn=prepare_worker))
    began = time.monotonic()
    stop = Interrupted(signal.SIGINT, 3)
    try:
        LastCheckpoint(tmp_path, 10).on_exception(SimpleNamespace(strategy=strategy), None, stop)
        del batches
        assert time.monotonic() - began < READERS * AT_THE_END / 2
    finally:
        end_workers()


PROGRAM = """
from torch.utils.data import DataLoader
from motionops.training.data.ending import end_workers
from motionops.training.data.loading import prepare_worker

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
