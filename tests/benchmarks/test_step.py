"""The rows of a training step, tiny: what they say, and that one that fails or is late costs the others nothing."""

import json

import pytest
import torch

from benchmarks import step
from benchmarks.in_time import OUT_OF_TIME

pytest.importorskip("lightning")
pytest.importorskip("av")
CPU = torch.device("cpu")


def measured(folder, *arguments):
    code = step.main(["--device", "cpu", "--results", str(folder), *arguments])
    return code, {file.stem: json.loads(file.read_text()) for file in folder.glob("*/step/*.json")}


def test_fima_and_its_networks(tmp_path, capsys):
    code, found = measured(tmp_path, "--only", "fima-pyav,networks")
    assert code == 0
    profile, networks = found["fima-pyav"], found["networks"]
    assert profile["steps"] == 1
    assert profile["run"]["checkpoint_every"] > profile["run"]["max_steps"]  # its time is no step's
    parts = networks["milliseconds"]
    # 2 clips of the online network, 8 of the momentum one; both are parts of the forward pass
    assert 0 < parts["online"] < parts["momentum"] < parts["online"] + parts["momentum"] < parts["forward"]
    times = [kernel["milliseconds"] for kernel in networks["kernels"]]
    assert times == sorted(times, reverse=True)
    assert any("conv" in kernel["name"] for kernel in networks["kernels"])
    assert "networks, 4 videos: online" in capsys.readouterr().out


def test_every_other_trainer_has_a_row(tmp_path):
    assert {"mcl", "modist", "controllable", "context_motion"} < set(step.Steps(CPU, 1.0, tmp_path).rows())


def test_too_late_is_not_measured(tmp_path, capsys):
    assert measured(tmp_path, "--seconds", "0") == (OUT_OF_TIME, {})
    assert "out of time: fima-pyav, networks, mcl" in capsys.readouterr().out


def test_a_row_that_fails_costs_the_others_nothing(tmp_path, monkeypatch, capsys):
    def row(self, name, flags, steps):
        if name == "mcl":
            raise RuntimeError("mcl ended with status 2: error: no such flag")
        return {"milliseconds": {"backward": 5.0}, "run": {"batch_size": 4}}

    monkeypatch.setattr(step.Steps, "trainer", row)
    code, found = measured(tmp_path, "--only", "mcl,modist")
    assert code == 1
    assert list(found) == ["modist"]
    assert found["modist"]["milliseconds"] == {"backward": 5.0}
    assert "mcl: RuntimeError: mcl ended with status 2" in capsys.readouterr().out


def test_the_largest_batch_that_fits(tmp_path, monkeypatch):
    tried = []

    def row(self, name, flags, steps):
        tried.append(flags["batch-size"])
        if flags["batch-size"] > 20:
            raise torch.OutOfMemoryError("no room")
        return {"batch": flags["batch-size"]}

    monkeypatch.setattr(step.Steps, "trainer", row)
    steps = step.Steps(torch.device("cuda"), 60.0, tmp_path)
    assert steps.preset("modist") == {"batch": 16}
    assert tried == [64, 32, 16]  # from the preset's on
