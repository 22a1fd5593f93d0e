"""metrics.csv over interruptions, checkpoints that are whole or not there."""

import csv
import os

import pytest
import torch

from motionops.commandline import user_message
from motionops.errors import UserError
from motionops.learning.checkpoint import AtomicCheckpointIO, read_checkpoint
from motionops.learning.config import TrainConfig
from motionops.learning.run_folder import MetricsFile, start_folder


def rows(path):
    with open(path, newline="") as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


def test_metrics_of_a_resumed_run_are_those_of_an_uninterrupted_one(tmp_path):
    path = tmp_path / "metrics.csv"
    log = MetricsFile(path)
    for step in range(1, 8):
        log.log_metrics({"loss": step / 2}, step)
    with open(path, "a") as file:
        file.write("8,")  # killed in the middle of a line
    log = MetricsFile(path, first_step=5)
    assert rows(path) == [(step, step / 2) for step in range(1, 6)]
    for step in range(6, 9):
        log.log_metrics({"loss": step / 2}, step)
    assert rows(path) == [(step, step / 2) for step in range(1, 9)]
    MetricsFile(path)
    assert not path.exists()  # a new run starts a new file


def test_a_column_that_comes_later(tmp_path):
    log = MetricsFile(tmp_path / "metrics.csv")
    log.log_metrics({"loss": 1.0}, 1)
    log.log_metrics({"loss": 2.0, "accuracy": 0.5}, 2)
    with open(tmp_path / "metrics.csv", newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"step": "1", "loss": "1.0", "accuracy": ""},
            {"step": "2", "loss": "2.0", "accuracy": "0.5"},
        ]


def test_a_cut_while_writing_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"value": 1}, path)
    before = path.read_bytes()

    def cut(checkpoint, file):
        file.write(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(OSError, match="No space left") as caught:
        AtomicCheckpointIO().save_checkpoint({"value": 2}, path)
    assert user_message(caught.value) == f"{path}: No space left on device"
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_is_no_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"half")
    with pytest.raises(UserError, match=r"--resume: .*last.ckpt is not a checkpoint of a motionops trainer"):
        read_checkpoint(path)
    torch.save({"something": 1}, path)
    with pytest.raises(UserError, match="is not a checkpoint"):
        read_checkpoint(path)


def test_a_new_run_removes_what_the_former_left_and_a_resumed_one_keeps_it(tmp_path):
    for name in ("last.ckpt", "metrics.csv", "metrics.json", "backbone.safetensors", "mine.txt"):
        (tmp_path / name).write_text("old")
    start_folder(tmp_path, TrainConfig(), resume=True)
    assert (tmp_path / "last.ckpt").exists()
    start_folder(tmp_path, TrainConfig(), resume=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "mine.txt"]
