"""What metrics.json says of a run: which videos it went without, and what it trained on."""

import json

import pytest
from torch import nn

pytest.importorskip("lightning")
from motionops.evaluation import end_of_run
from motionops.training.config import TrainConfig
from motionops.training.data.manifest import TrainingVideos
from motionops.training.method import Method
from motionops.video import Skipped, Video


def test_videos_that_broke_before_and_while_training_are_named(tmp_path, monkeypatch):
    for other in ("keep_backbone", "draw_report", "write_report"):
        monkeypatch.setattr(end_of_run, other, lambda *given, **named: None)
    module = Method(TrainConfig(output=tmp_path))
    module.backbone, module.step, module.metrics = nn.Linear(2, 2), 30, {"loss": 0.5}
    module.failed = [Skipped("b.mp4", "broke"), Skipped("a.mp4", "is empty")]
    videos = TrainingVideos([Video("c.mp4"), Video("d.mp4")], [Skipped("a.mp4", "is empty")], [])
    end_of_run.finish(module.config, module, videos, None)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["skipped"] == 2
    assert {(video["path"], video["reason"]) for video in metrics["skipped_videos"]} == {
        ("a.mp4", "is empty"),
        ("b.mp4", "broke"),
    }
    assert metrics["training"] == {"steps": 30, "videos": 2, "loss": 0.5}
