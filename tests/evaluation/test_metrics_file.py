"""The end of every metrics.json."""

from pathlib import Path

import torch

from motionops.evaluation.written.metrics_file import notes
from motionops.video import Skipped


def test_settings_are_what_a_score_depends_on():
    """And not where and how it was computed."""
    given = {"clips": 2, "mean": torch.full((3,), 0.5), "std": (1.0, 2.0), "short": "hold", "still": False}
    ran = {"progress": True, "cache": Path("x"), "device": torch.device("cpu")}
    told = notes([], ["line"], {**given, **ran})
    assert told["settings"] == {**given, "mean": [0.5, 0.5, 0.5], "std": [1.0, 2.0]}
    assert told["warnings"] == ["line"]


def test_a_video_is_named_once():
    told = notes([Skipped("a.mp4", "is empty"), Skipped("b.mp4", "broke"), Skipped("a.mp4", "is empty")], [], {})
    assert told["skipped"] == 2
    assert [video["path"] for video in told["skipped_videos"]] == ["a.mp4", "b.mp4"]
