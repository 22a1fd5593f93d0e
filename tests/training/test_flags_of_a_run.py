"""Flags that a run hands on: what it logs to, how long its gradients may be, what its warnings look like."""

import warnings
from dataclasses import replace

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from motionops.motion import MotionVectorWarning
from motionops.motion.vector_decoder import forget_doubtful_files
from motionops.training.config import TrainConfig
from motionops.training.data import loading
from motionops.training.lightning_quirks import loggers, make_trainer
from motionops.training.run_folder import plain


@pytest.mark.parametrize(
    ("names", "kinds"),
    [(("csv", "tensorboard"), ["MetricsFile", "TensorBoardLogger"]), (("csv",), ["MetricsFile"]), ((), [])],
)
def test_it_logs_to_what_is_named(tmp_path, names, kinds):
    assert [type(one).__name__ for one in loggers(TrainConfig(output=tmp_path, logger=names), 0)] == kinds


def test_tensorboards_table_of_runs_has_the_flags(tmp_path):
    """As TensorBoard's own reader and the file beside the events tell them."""
    config = TrainConfig(output=tmp_path, learning_rate=0.25, milestones=(3, 5), logger=("tensorboard",))
    (board,) = loggers(config, 0)
    board.save()
    flags = yaml.safe_load((tmp_path / "tensorboard" / "hparams.yaml").read_text())
    assert flags == plain(config)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    held = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = HParamsPluginData.FromString(held).session_start_info.hparams
    assert start["learning_rate"].number_value == 0.25
    assert start["milestones"].string_value == "[3, 5]"
    assert start["seed"].number_value == 0


def test_gradients_are_shortened_where_it_is_asked(tmp_path, no_gpu):
    config = TrainConfig(output=tmp_path)
    assert make_trainer(config, 1, 1, False, []).gradient_clip_val is None
    trainer = make_trainer(replace(config, clip_gradient=0.5), 1, 1, False, [])
    assert (trainer.gradient_clip_val, trainer.gradient_clip_algorithm) == (0.5, None)  # None: by norm


def test_warnings_are_one_line_and_of_doubtful_files_the_first_is_named(capsys):
    forget_doubtful_files()
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
