"""The report of a training's end: scores, and every picture of the run with a sentence."""

import re
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("lightning")
from motionops.evaluation.pictures import confusion_picture
from motionops.evaluation.run_report import CAPTIONS, PAGE, draw_report, write_report
from motionops.training.config import TrainConfig
from motionops.training.method import Method
from motionops.training.output_folder import OWN
from motionops.video import Batch

METRICS = {"R@1": 75.0, "R@5": 87.5, "skipped": 2, "training": {"steps": 30, "videos": 20}}


def test_the_report_of_a_run(tmp_path):
    for name in ("own", "training"):
        confusion_picture(torch.eye(2).long(), ["a", "b"], tmp_path / "report" / f"{name}.png")
    write_report(tmp_path, METRICS)
    text = (tmp_path / "report" / PAGE).read_text()
    assert re.findall(r"<h2>([^<]+)</h2>", text) == ["Run", "training", "own", "More"]
    assert text.count('src="data:image/png') == 2
    for said in (
        "30 steps on 20 videos; 2 videos could not be used",
        "75.0",
        CAPTIONS["training"],
        "evaluate pictures",
    ):
        assert said in text
    assert f"report/{PAGE}" in OWN  # --overwrite may remove it


def test_pictures_are_drawn_of_networks_that_do_not_learn(tmp_path):
    """BatchNorm in training mode would take in what is drawn, and show it by its batch."""

    class Drawn(Method):
        def report(self, folder, batch):
            noted.append((self.training, torch.is_grad_enabled(), folder.is_dir(), batch.index.tolist()))

    noted = []
    frames, starts, picture = torch.zeros(1, 2, 4, 4, 3, dtype=torch.uint8), torch.zeros(1), torch.ones(2)
    whole = {(0, number): Batch(frames, starts, number, 0, picture) for number in range(9)}
    draw_report(tmp_path, Drawn(TrainConfig()), SimpleNamespace(of_whole_pictures=lambda: whole))
    assert noted == [(False, False, True, list(range(6)))]


def test_a_run_that_measured_nothing_has_no_table(tmp_path):
    (tmp_path / "report").mkdir()
    write_report(tmp_path, {"protocol": "none", "skipped": 0, "training": {"steps": 0, "videos": 4}})
    text = (tmp_path / "report" / PAGE).read_text()
    assert "<table>" not in text
    assert "<img " not in text
