"""Small videos and a tiny FIMA, so that a whole run takes seconds."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "trainers"))

TINY = {
    "batch_size": 4,
    "size": 16,
    "epochs": 3,
    "queue": 16,
    "hidden": 16,
    "dim": 16,
    "decoder_width": 16,
    "decoder_feedforward": 16,
    "workers": 0,
    "log_every": 1,
    "evaluation_clips": 1,
}


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """A MovingShapes of 16 training and 8 test videos."""
    from motionops.video import moving_shapes

    return moving_shapes.generate(tmp_path_factory.mktemp("shapes"), train=16, test=8, progress=False)


@pytest.fixture
def tiny(shapes, tmp_path):
    """Makes configurations of a run of 12 steps: `tiny(losses=("vv",), ...)`."""
    import fima

    def make(**changes):
        own = {"data": shapes, "list": shapes / "train.txt", "output": tmp_path / "run", **TINY}
        return replace(fima.FIMAConfig(), **{**own, **changes})

    return make


@pytest.fixture(autouse=True)
def one_thread():
    """Sums are then added in the same order in every process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu(no_gpu):
    """Whole runs, but for those that are marked `cuda`."""
