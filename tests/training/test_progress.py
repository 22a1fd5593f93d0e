"""The bar of a run goes on where the run does."""

from types import SimpleNamespace

import pytest

pytest.importorskip("lightning")
from motionops.training.watch.progress import TrainingBar

LOGGED = {"epoch": 1, "loss": 0.25, "accuracy": 0.5, "clips_per_second": 40.0, "waiting": 0.3}


def test_a_resumed_run_begins_at_its_step_and_counts_whole_ones(capsys):
    module = SimpleNamespace(step=4, total_steps=10, metrics={}, between_steps=True)
    trainer, bar = SimpleNamespace(is_global_zero=True), TrainingBar()
    bar.on_train_start(trainer, module)
    assert (bar.bar.n, bar.bar.total) == (4, 10)
    module.metrics = LOGGED
    for between in (False, True):  # two parts of a step
        module.between_steps = between
        bar.on_train_batch_end(trainer, module, {}, None, 0)
    assert bar.bar.n == 5
    bar.on_train_end(trainer, module)
    assert bar.bar is None
    assert "epoch 2, loss 0.250, accuracy 50 %, 40 clips/s, waits 30 %" in capsys.readouterr().err
