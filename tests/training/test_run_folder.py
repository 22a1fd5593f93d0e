"""metrics.csv over interruptions, and what a new run leaves of a former one."""

import csv

from motionops.training.config import TrainConfig
from motionops.training.run_folder import MetricsFile, start_folder


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


def test_a_new_run_removes_what_the_former_left_and_a_resumed_one_keeps_it(tmp_path):
    for name in ("last.ckpt", "metrics.csv", "metrics.json", "backbone.safetensors", "mine.txt"):
        (tmp_path / name).write_text("old")
    start_folder(tmp_path, TrainConfig(), resume=True)
    assert (tmp_path / "last.ckpt").exists()
    start_folder(tmp_path, TrainConfig(), resume=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "mine.txt"]
