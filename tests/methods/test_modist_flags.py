"""Flags of MoDist: wrong ones are one line, before anything is trained."""

import pytest
import torch

from motionops.commandline import run
from motionops.methods.modist import PRESETS, MoDistConfig
from trainers.modist import main


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "nonsense"], "unknown preset 'nonsense'"),
        (["--losses", "v", "v"], "--losses: each loss once"),
        (["--losses", "m"], "--losses m: trains the motion pathway alone"),
        (["--queue", "31"], "--queue: 31 negatives are fewer than the --batch-size of 32"),
        (["--temperature", "0"], "--temperature: must be positive, got 0.0"),
        (["--group", "1"], "--group: one sample has no BatchNorm statistics"),
        (
            ["--prepared", "/no/such/edges", "--data", "DATA"],
            "--prepared: /no/such/edges holds no flow edges; python -m",
        ),
        (["--motion", "flow"], "--flow prepared: holds flow edges; --motion flow needs --flow tvl1 or raft"),
        (["--flow", "raft"], "--flow raft: --size must be a multiple of 8 and at least 128, got 32"),
        (["--motion", "nonsense"], "motion"),
    ],
)
def test_wrong_flags(capsys, tmp_path, shapes, flags, message):
    line = ["--output", str(tmp_path / "run"), *(str(shapes) if flag == "DATA" else flag for flag in flags)]
    assert run(main, MoDistConfig, PRESETS, line) != 0
    errors = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_missing_weights_of_raft_are_one_line_before_training(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    line = ["--output", str(tmp_path / "run"), "--flow", "raft", "--size", "128"]
    assert run(main, MoDistConfig, PRESETS, line) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "raft_large_C_T_V2" in text
    assert "https://" in text
    assert str(tmp_path / "hub" / "checkpoints") in text
    assert "--raft-weights" in text


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        run(main, MoDistConfig, PRESETS, ["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--losses", "--gamma", "--motion", "--flow", "--raft-weights", "--prepared", "--no-temporal-jitter"):
        assert flag in text
