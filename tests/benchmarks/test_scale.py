"""What a training costs, from a profile."""

import json

import pytest

from benchmarks import scale


def test_hours_and_cores():
    # 100 epochs of 64,000 videos are 100,000 steps of 64; at 360 ms each that is 10 hours
    assert scale.hours(360.0, 64_000, 100, 64, 1) == pytest.approx(10.0)
    assert scale.hours(360.0, 64_000, 100, 64, 8) == pytest.approx(1.25)
    assert scale.cores(500.0, 50.0, 40) == pytest.approx(4.0)


def test_the_table(tmp_path, capsys):
    profile = {
        "milliseconds": {"networks": 300.0, "backward": 60.0},
        "run": {"batch_size": 64, "devices": 1, "backbone": "i3d", "frames": 16, "size": 224},
        "machine": {"GPU": "none", "processor": "Processor X"},
    }
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    assert scale.main([str(tmp_path / "profile.json"), "--videos", "64000", "--gpus", "1", "8"]) == 0
    shown = capsys.readouterr().out
    assert "measured on no GPU: Processor X" in shown
    assert "| part | ms a step | hours, 1 GPU | hours, 8 GPU |" in shown
    assert "| all | 360.00 | 10.0 | 1.2 |" in shown
