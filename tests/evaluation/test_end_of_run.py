"""The report of a training's end: scores, and every picture of the run with a sentence."""

import re

import pytest
import torch

pytest.importorskip("lightning")
from motionops.evaluation.end_of_run import CAPTIONS, PAGE, write_report
from motionops.evaluation.pictures import confusion_picture
from motionops.training.output_folder import OWN

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


def test_a_run_that_measured_nothing_has_no_table(tmp_path):
    (tmp_path / "report").mkdir()
    write_report(tmp_path, {"protocol": "none", "skipped": 0, "training": {"steps": 0, "videos": 4}})
    text = (tmp_path / "report" / PAGE).read_text()
    assert "<table>" not in text
    assert "<img " not in text
