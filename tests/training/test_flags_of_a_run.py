"""Flags that a run hands on: what it logs to, how long its gradients may be, what its warnings look like."""

import warnings
from dataclasses import replace

import pytest

from motionops.motion import MotionVectorWarning
from motionops.training.config import TrainConfig
from motionops.training.data import loading
from motionops.training.lightning_quirks import loggers, make_trainer


@pytest.mark.parametrize(
    ("names", "kinds"),
    [(("csv", "tensorboard"), ["MetricsFile", "TensorBoardLogger"]), (("csv",), ["MetricsFile"]), ((), [])],
)
def test_it_logs_to_what_is_named(tmp_path, names, kinds):
    assert [type(one).__name__ for one in loggers(TrainConfig(output=tmp_path, logger=names), 0)] == kinds


def test_gradients_are_shortened_where_it_is_asked(tmp_path, no_gpu):
    config = TrainConfig(output=tmp_path)
    assert make_trainer(config, 1, 1, False, []).gradient_clip_val is None
    trainer = make_trainer(replace(config, clip_gradient=0.5), 1, 1, False, [])
    assert (trainer.gradient_clip_val, trainer.gradient_clip_algorithm) == (0.5, None)  # None: by norm


def test_warnings_are_one_line_and_doubtful_files_are_counted(monkeypatch, capsys):
    count = 0
    monkeypatch.setattr(loading, "doubtful_files", lambda: count)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = loading.in_one_line
        warnings.warn("something\nelse", stacklevel=1)
        for count in range(1, 4):
            warnings.warn(f"{count}.mp4: vectors may be wrong", MotionVectorWarning, stacklevel=1)
    assert capsys.readouterr().err.splitlines() == [
        "warning: something else",
        "warning: 1.mp4: vectors may be wrong (the first such file; how many there were is said at the end)",
    ]
