"""Small videos and a tiny FIMA, so that a whole run takes seconds."""

from pathlib import Path

import pytest
import torch

from tests.conftest import hide_gpus
from tests.methods.tiny import tiny as tiny_run
from trainers import fima

# What most runs have and the contract of the methods has not: an optimizer that remembers, a schedule, dropout.
ADAMW = {"optimizer": "adamw", "learning_rate": 2e-3, "weight_decay": 1e-4, "warmup_epochs": 2.0, "epochs": 3}


@pytest.fixture
def tiny(shapes, tmp_path):
    """Makes configurations of a run of 12 steps: `tiny(losses=("vv",), ...)`."""

    def make(**changes):
        return tiny_run("fima", shapes, **{"output": tmp_path / "run", **ADAMW, "decoder_dropout": 0.1, **changes})

    return make


# A run that others, which are cut on their way, are compared with.
UNINTERRUPTED = {"epochs": 6, "losses": ("vv",)}


@pytest.fixture(scope="session")
def whole(shapes, tmp_path_factory) -> Path:
    """The folder of the run `tiny(**UNINTERRUPTED)`."""
    output, threads = tmp_path_factory.mktemp("whole") / "run", torch.get_num_threads()
    config = tiny_run("fima", shapes, output, **ADAMW | {"decoder_dropout": 0.1} | UNINTERRUPTED)
    with pytest.MonkeyPatch.context() as patch:
        hide_gpus(patch)
        torch.set_num_threads(1)
        assert fima.main(config) == 0
        torch.set_num_threads(threads)
    return output


@pytest.fixture(autouse=True)
def in_one_thread(one_thread):
    """Sums are then added in the same order in every process."""


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu(no_gpu):
    """Whole runs, but for those that are marked `cuda`."""
