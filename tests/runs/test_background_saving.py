"""last.ckpt is written beside the steps: what a cut, a signal or an error leaves meanwhile, and when it is told."""

import errno
import os
import signal
import time

import pytest
import torch

from motionops.training import checkpoint, lightning_quirks
from motionops.training.checkpoint import NAME
from tests.runs.conftest import UNINTERRUPTED
from tests.runs.runs import ROOT, command, interrupted, logged
from trainers import fima

LOGGED = ("step", "epoch", "loss", "loss_vv", "accuracy", "learning_rate")


def saved_step(folder):
    return torch.load(folder / NAME, weights_only=True)["motionops"]["step"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_while_a_checkpoint_is_half_written(whole, tiny, tmp_path, number):
    cut = tiny(output=tmp_path / "cut", **UNINTERRUPTED)
    line = command(cut, "fima", "--checkpoint-every", "4")
    line.insert(1, str(ROOT / "tests/runs/run_on_a_slow_disk.py"))
    partial = cut.output / f".{NAME}.partial"

    def half_written_beside_a_later_step(done):
        return (cut.output / NAME).exists() and partial.exists() and done % 4 == 2

    status, text = interrupted(line, cut.output, 6, number, moment=half_written_beside_a_later_step)
    steps = len(logged(cut.output, LOGGED))
    assert 6 <= steps < 24
    if number == signal.SIGKILL:
        assert status == -number
        assert partial.exists()
        assert saved_step(cut.output) == steps // 4 * 4 - 4  # the former
    else:
        assert status == 128 + number, text
        assert not partial.exists()
        assert saved_step(cut.output) == steps
    assert fima.main(tiny(output=cut.output, **UNINTERRUPTED, resume=True)) == 0
    assert logged(cut.output, LOGGED) == logged(whole, LOGGED)
    assert not partial.exists()


def full_from(save, count):
    """torch.save on a disk that is full from the `count`-th file on."""
    calls = []

    def write(value, file):
        calls.append(file)
        if len(calls) >= count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(value, file)

    return write


@pytest.fixture
def no_evaluation(monkeypatch):
    monkeypatch.setattr(fima, "finish", lambda *arguments: None)


@pytest.mark.parametrize(("count", "steps"), [(2, 7), (4, 12)])
def test_a_disk_that_is_full_ends_the_run_at_the_next_step_or_at_the_end(tiny, monkeypatch, count, steps):
    """The second file is of step 6 of 12, the fourth of the last one."""
    config = tiny(losses=("vv",), checkpoint_every=3)
    monkeypatch.setattr(torch, "save", full_from(torch.save, count))
    with pytest.raises(OSError, match="No space left") as caught:
        fima.main(config)
    assert caught.value.filename == str(config.output / NAME)
    monkeypatch.undo()
    assert len(logged(config.output, LOGGED)) == steps


def slow(monkeypatch):
    save = torch.save

    def later(value, file):
        time.sleep(0.5)
        save(value, file)

    monkeypatch.setattr(torch, "save", later)


def test_an_error_of_a_step_waits_for_the_file(tiny, monkeypatch):
    def fail(module):
        if module.step == 4:
            raise RuntimeError("lost")

    slow(monkeypatch)
    monkeypatch.setattr(fima.FIMA, "on_after_backward", fail)
    config = tiny(losses=("vv",), checkpoint_every=4)
    with pytest.raises(RuntimeError, match="lost"):
        fima.main(config)
    assert [path.name for path in config.output.glob(f"*{NAME}*")] == [NAME]
    assert saved_step(config.output) == 4


def test_the_first_error_ends_the_run_and_the_writers_is_told(tiny, monkeypatch, capsys):
    def fail(module):
        if module.step == 4:
            raise RuntimeError("lost")

    monkeypatch.setattr(checkpoint.BackgroundCheckpointIO, "raise_error", lambda writer: None)
    monkeypatch.setattr(torch, "save", full_from(torch.save, 1))
    monkeypatch.setattr(fima.FIMA, "on_after_backward", fail)
    config = tiny(losses=("vv",), checkpoint_every=4)
    with pytest.raises(RuntimeError, match="lost"):
        fima.main(config)
    told = f"warning: last.ckpt was not written: {config.output / NAME}: No space left on device\n"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"checkpoint_minutes": 0.0}, [4, 8, 12]),
        ({"checkpoint_minutes": 1e-9}, list(range(1, 13))),
        ({"checkpoint_minutes": 1e-9, "checkpoint_every": 5}, [5, 10, 12]),
    ],
)
def test_which_steps_are_saved(tiny, monkeypatch, no_evaluation, flags, expected):
    """A number of steps is kept to the letter; the minutes go with whole epochs."""
    saved = []

    class AtOnce(checkpoint.BackgroundCheckpointIO):
        def save_checkpoint(self, value, path, storage_options=None):
            super().save_checkpoint(value, path)
            saved.append(value["motionops"]["step"])
            self.wait()

    monkeypatch.setattr(lightning_quirks, "BackgroundCheckpointIO", AtOnce)
    assert fima.main(tiny(losses=("vv",), **flags)) == 0
    assert saved == expected
