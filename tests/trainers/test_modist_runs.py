"""Whole runs of MoDist: learning, resumption, a kill, several processes, ablations, real videos, wrong flags."""

import json
from dataclasses import replace

import modist
import numpy as np
import pytest
import torch

from motionops.commandline import run
from motionops.errors import UserError
from motionops.models import load_backbone
from motionops.video.encoding import write_video
from tests.trainers.runs import DATA, command, finished, interrupted, logged

SAME = ("step", "epoch", "loss", "loss_v", "loss_m", "loss_mv", "low_motion", "accuracy", "learning_rate")

TINY = {
    "batch_size": 4,
    "size": 16,
    "epochs": 3,
    "queue": 16,
    "hidden": 16,
    "dim": 16,
    "frames": 4,
    "motion_frames": 4,
    "motion": "frame-difference",
    "gamma": 0.0,
    "workers": 0,
    "log_every": 1,
    "evaluation_clips": 1,
}


def tiny(shapes, output, **changes):
    own = {"data": shapes, "list": shapes / "train.txt", "output": output, **TINY}
    return replace(modist.MoDistConfig(), **{**own, **changes})


def losses(folder):
    return logged(folder, SAME)


def arguments(config, *more, **how):
    return command(config, ("data", "list", "output", *TINY), "modist", *more, **how)


def test_a_run_writes_everything_and_its_loss_falls(shapes, tmp_path):
    config = tiny(shapes, tmp_path / "run", test_list=shapes / "test.txt", epochs=20, learning_rate=5e-3)
    assert modist.main(config) == 0
    assert {path.name for path in (config.output / "report").iterdir()} >= {"training.png", "motion.png"}
    rows = losses(config.output)
    assert len(rows) == 80
    values = [float(row["loss"]) for row in rows]
    assert sum(values[-8:]) < sum(values[:8]) - 8 * 0.2
    metrics = json.loads((config.output / "metrics.json").read_text())
    assert metrics["protocol"] == "retrieval"
    assert metrics["training"]["low_motion"] == 0
    assert load_backbone(config.output / "backbone.safetensors").name == "r3d_small"


def test_a_resumed_run_equals_an_uninterrupted_one_and_so_do_its_queues(shapes, tmp_path):
    whole = tiny(shapes, tmp_path / "whole")
    assert modist.main(whole) == 0
    assert modist.main(tiny(shapes, tmp_path / "cut", max_steps=5, workers=2)) == 0
    assert modist.main(tiny(shapes, tmp_path / "cut", resume=True)) == 0
    assert losses(tmp_path / "cut") == losses(whole.output)
    first, second = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"] for name in ("whole", "cut")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert sorted(set(first["motion_queue.ids"].tolist())) == sorted(set(second["queue.ids"].tolist()))
    assert -1 not in first["queue.ids"].tolist()


def test_a_kill_loses_nothing_that_was_saved(shapes, tmp_path):
    whole = tiny(shapes, tmp_path / "whole", epochs=10)
    assert modist.main(whole) == 0
    cut = tiny(shapes, tmp_path / "cut", epochs=10)
    interrupted(arguments(cut, "--checkpoint-every", "3"), cut.output, steps=7)
    assert modist.main(tiny(shapes, tmp_path / "cut", epochs=10, resume=True)) == 0
    assert losses(cut.output) == losses(whole.output)


def test_two_processes_equal_one_with_the_same_batch(shapes, tmp_path):
    """gloo; BatchNorm replaced: the losses are those of one process, and so are the queues' ids."""
    runs, states = {}, {}
    for name, devices in (("one", 1), ("two", 2)):
        config = tiny(shapes, tmp_path / name, epochs=2, gamma=0.03)
        line = arguments(
            config,
            *("--devices", str(devices), "--warmup-epochs", "0"),
            *("--optimizer", "sgd", "--learning-rate", "0.1"),  # AdamW amplifies another order of sums
            without_batchnorm=True,
        )
        finished(line)
        runs[name] = losses(config.output)
        states[name] = torch.load(config.output / "last.ckpt", weights_only=True)["state_dict"]
    assert len(runs["one"]) == len(runs["two"]) == 8
    for one, two in zip(runs["one"], runs["two"], strict=True):
        for name in ("loss", "loss_v", "loss_mv", "low_motion"):
            assert float(two[name]) == pytest.approx(float(one[name]), abs=1e-4), (one, two)
    for queue in ("queue.ids", "motion_queue.ids"):
        assert torch.equal(states["one"][queue], states["two"][queue])


@pytest.mark.parametrize(
    "flags",
    [
        {"losses": ("v",)},
        {"losses": ("v", "mv")},
        {"losses": ("mv",), "mv_negatives": "query"},
        {"temporal_jitter": False, "gamma": 0.01},
        {"gamma": 0.03, "candidates": 2},
        {"motion_backbone": "r2d_50_eighth", "group": 2, "size": 32},
        {"precision": "bf16-mixed", "optimizer": "sgd", "schedule": "epoch"},
    ],
)
def test_every_ablation_runs(shapes, tmp_path, flags):
    assert modist.main(tiny(shapes, tmp_path / "run", max_steps=2, **flags)) == 0
    assert len(losses(tmp_path / "run")) == 2


@pytest.mark.parametrize("motion", ["flow-edges", "flow"])
def test_flow_while_training(shapes, tmp_path, motion):
    config = tiny(shapes, tmp_path / "run", max_steps=2, motion=motion, flow="tvl1", motion_frames=3)
    assert modist.main(config) == 0
    assert len(losses(config.output)) == 2


def test_a_set_without_motion_says_so_and_stops(shapes, tmp_path):
    with pytest.raises(UserError, match=r"--gamma 0.9: of the 16 videos drawn so far none has a clip of frame-diff"):
        modist.main(tiny(shapes, tmp_path / "run", gamma=0.9))


@pytest.mark.parametrize("prepared", [False, True])
def test_a_video_without_motion_is_counted_and_used_for_its_visual_loss(shapes, tmp_path, monkeypatch, prepared):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    lines = (shapes / "train.txt").read_text().splitlines()[:6]
    stills = []
    for number in range(2):
        picture = np.random.default_rng(number).integers(0, 256, (1, 40, 40, 3), dtype=np.uint8)
        write_video(tmp_path / f"still{number}.mp4", picture.repeat(24, axis=0), codec="mpeg4")
        stills.append(f"{tmp_path}/still{number}.mp4 0")
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join([*(f"{shapes}/{line}" for line in lines), *stills]))
    motion = {"motion": "flow-edges", "gamma": 0.02} if prepared else {"gamma": 0.003}
    config = tiny(shapes, tmp_path / "run", data=None, list=listing, epochs=2, batch_size=8, **motion)
    assert modist.main(config) == 0
    assert [float(row["low_motion"]) for row in losses(config.output)] == [2, 4]
    assert json.loads((config.output / "metrics.json").read_text())["training"]["low_motion"] == 4
    state = torch.load(config.output / "last.ckpt", weights_only=True)["state_dict"]
    assert set(range(8)) == set(state["queue.ids"].tolist()) - {-1}
    assert set(range(6)) == set(state["motion_queue.ids"].tolist()) - {-1}


@pytest.mark.parametrize("folder", ["weizmann4", "surv_fight"])
def test_real_videos(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    if not (DATA / folder).is_dir():
        pytest.skip(f"the videos of {folder} are not here")
    line = ["--data", str(DATA / folder), "--output", str(tmp_path / "run"), "--max-steps", "2", "--batch-size", "4"]
    line += ["--queue", "16", "--size", "32", "--workers", "0"]
    line += ["--flow", {"weizmann4": "prepared", "surv_fight": "tvl1"}[folder]]
    assert run(modist.main, modist.MoDistConfig, modist.PRESETS, line) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "nonsense"], "unknown preset 'nonsense'"),
        (["--losses", "v", "v"], "--losses: each loss once"),
        (["--losses", "m"], "--losses m: trains the motion pathway alone"),
        (["--queue", "31"], "--queue: 31 negatives are fewer than the --batch-size of 32"),
        (["--temperature", "0"], "--temperature: must be positive, got 0.0"),
        (["--momentum", "1.5"], "--momentum: must be in [0, 1], got 1.5"),
        (["--gamma", "-1"], "--gamma: must not be negative, got -1.0"),
        (["--gamma", "nan"], "--gamma: must not be negative, got nan"),
        (["--weight-v", "-1"], "--weight-v: must not be negative"),
        (["--candidates", "1"], "--candidates: must be at least 2, got 1"),
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
    assert run(modist.main, modist.MoDistConfig, modist.PRESETS, line) != 0
    errors = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_missing_weights_of_raft_are_one_line_before_training(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    line = ["--output", str(tmp_path / "run"), "--flow", "raft", "--size", "128"]
    assert run(modist.main, modist.MoDistConfig, modist.PRESETS, line) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "raft_large_C_T_V2" in text
    assert "https://" in text
    assert str(tmp_path / "hub" / "checkpoints") in text
    assert "--raft-weights" in text


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        run(modist.main, modist.MoDistConfig, modist.PRESETS, ["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--losses", "--gamma", "--motion", "--flow", "--raft-weights", "--prepared", "--no-temporal-jitter"):
        assert flag in text
