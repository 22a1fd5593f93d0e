"""Whole runs of Controllable Augmentations: learning, resumption, a kill, two processes, ablations, real videos."""

import json
from dataclasses import replace

import controllable
import pytest
import torch

from motionops.commandline import run
from motionops.models import load_backbone
from tests.trainers.runs import DATA, command, finished, interrupted, logged

LOSSES = ("loss", "loss_rc", "loss_mi", "loss_td", "mi_levels", "mi_views", "accuracy")
SAME = ("step", "epoch", *LOSSES, "learning_rate")

TINY = {
    "batch_size": 4,
    "size": 16,
    "epochs": 3,
    "hidden": 16,
    "dim": 16,
    "frames": 4,
    "stride": 1,
    "clips": 2,
    "global_cells": 4,
    "drawn_levels": 2,
    "workers": 0,
    "log_every": 1,
    "evaluation_clips": 1,
}


def tiny(shapes, output, **changes):
    own = {"data": shapes, "list": shapes / "train.txt", "output": output, **TINY}
    return replace(controllable.ControllableConfig(), **{**own, **changes})


def losses(folder):
    return logged(folder, SAME)


def arguments(config, *more, **how):
    return command(config, ("data", "list", "output", *TINY), "controllable", *more, **how)


def test_a_run_writes_everything_and_its_loss_falls(shapes, tmp_path):
    config = tiny(shapes, tmp_path / "run", test_list=shapes / "test.txt", epochs=20, learning_rate=5e-3)
    assert controllable.main(config) == 0
    assert {path.name for path in (config.output / "report").iterdir()} >= {"training.png", "regions.png"}
    rows = losses(config.output)
    assert len(rows) == 80
    values = [float(row["loss_rc"]) for row in rows]
    assert sum(values[-8:]) < sum(values[:8]) - 8 * 0.2
    metrics = json.loads((config.output / "metrics.json").read_text())
    assert metrics["protocol"] == "retrieval"
    assert load_backbone(config.output / "backbone.safetensors").name == "r3d_small"


def test_a_resumed_run_equals_an_uninterrupted_one_and_so_does_its_estimator(shapes, tmp_path):
    whole = tiny(shapes, tmp_path / "whole", optimizer="adam", milestones=(2,))
    assert controllable.main(whole) == 0
    changes = {"optimizer": "adam", "milestones": (2,)}
    assert controllable.main(tiny(shapes, tmp_path / "cut", max_steps=5, workers=2, **changes)) == 0
    assert controllable.main(tiny(shapes, tmp_path / "cut", resume=True, **changes)) == 0
    assert losses(tmp_path / "cut") == losses(whole.output)
    rates = [float(row["learning_rate"]) for row in losses(whole.output)]
    assert rates[:7] == sorted(rates[:7])  # warm-up
    assert rates[8:] == pytest.approx([1e-4 * 2] * 4)
    first, second = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"] for name in ("whole", "cut")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.isfinite(first["information.log_partition"])


def test_a_kill_loses_nothing_that_was_saved(shapes, tmp_path):
    whole = tiny(shapes, tmp_path / "whole", epochs=10)
    assert controllable.main(whole) == 0
    cut = tiny(shapes, tmp_path / "cut", epochs=10)
    interrupted(arguments(cut, "--checkpoint-every", "3"), cut.output, steps=7)
    assert controllable.main(tiny(shapes, tmp_path / "cut", epochs=10, resume=True)) == 0
    assert losses(cut.output) == losses(whole.output)


@pytest.mark.parametrize("names", [("rc", "mi", "td"), ("nce", "td")])
def test_two_processes_equal_one_with_the_same_batch(shapes, tmp_path, names):
    """gloo; BatchNorm replaced: negatives, pairs and the moving average are those of the whole batch."""
    runs, states = {}, {}
    for name, devices in (("one", 1), ("two", 2)):
        config = tiny(shapes, tmp_path / name, epochs=2)
        line = arguments(
            config,
            *("--devices", str(devices), "--warmup-epochs", "0", "--losses", *names),
            *("--optimizer", "sgd", "--learning-rate", "0.1"),  # AdamW amplifies another order of sums
            without_batchnorm=True,
        )
        finished(line)
        runs[name] = losses(config.output)
        states[name] = torch.load(config.output / "last.ckpt", weights_only=True)["state_dict"]
    assert len(runs["one"]) == len(runs["two"]) == 8
    for one, two in zip(runs["one"], runs["two"], strict=True):
        for name in {*LOSSES, "accuracy"} & set(one) - ({"accuracy"} if one["step"] != "1" else set()):
            assert float(two[name]) == pytest.approx(float(one[name]), abs=1e-4), (name, one, two)
    if "mi" in names:
        one, two = (state["information.log_partition"] for state in states.values())
        torch.testing.assert_close(two, one, rtol=0, atol=5e-3)


@pytest.mark.parametrize(
    "flags",
    [
        {"losses": ("nce",)},
        {"losses": ("nce", "mi", "td"), "nce_pairs": "global"},
        {"losses": ("rc", "mi"), "estimator": "nwj"},
        {"losses": ("rc", "mi"), "estimator": "infonce", "marginals": 1},
        {"losses": ("rc",), "clips": 1, "global_cells": 1, "head": "none"},
        {"losses": ("rc", "td"), "order_head": "mlp", "order_estimator": "infonce", "shuffles": 2},
        {"losses": ("rc", "td"), "order_input": "map", "mirror": 0.0},
        {"losses": ("nce", "td"), "order_head": "vcop", "clips": 3},
        {"order_head": "gru-mlp", "order_estimator": "nwj", "global_cells": 2},
        {"colour_levels": 2, "hue_levels": 2, "blur_levels": 2, "drawn_levels": 32},
        {"precision": "bf16-mixed", "optimizer": "adam", "milestones": (1,)},
        {"clips": 4, "frames": 16, "stride": 1, "backbone": "r3d_18_pool", "size": 32, "global_cells": 8},
    ],
)
def test_every_ablation_runs(shapes, tmp_path, flags):
    assert controllable.main(tiny(shapes, tmp_path / "run", max_steps=2, **flags)) == 0
    assert len(losses(tmp_path / "run")) == 2


@pytest.mark.parametrize("folder", ["weizmann4", "surv_fight"])
def test_real_videos(tmp_path, folder):
    if not (DATA / folder).is_dir():
        pytest.skip(f"the videos of {folder} are not here")
    line = ["--data", str(DATA / folder), "--output", str(tmp_path / "run"), "--preset", "demo", "--max-steps", "2"]
    line += ["--batch-size", "4", "--workers", "0"]
    assert run(controllable.main, controllable.ControllableConfig, controllable.PRESETS, line) == 0
    assert (tmp_path / "run" / "backbone.safetensors").exists()
