"""Whole runs of FIMA: learning, resumption, signals, several processes."""

import json
import signal
from pathlib import Path

import fima
import pytest
import torch

from motionops.models import load_backbone
from tests.trainers.conftest import TINY
from tests.trainers.runs import command, finished, interrupted, logged

# The flags of a command line that makes a tiny run.
NAMED = ("data", "list", "output", "backbone", "decoder_dropout", "columns", *TINY)
SAME = ("step", "epoch", "loss", "loss_vv", "loss_pix", "loss_fra", "accuracy", "learning_rate")


def losses(folder):
    return logged(folder, SAME)


def arguments(config, *more, **how):
    return command(config, NAMED, "fima", "--losses", *config.losses, *more, **how)


def test_a_run_writes_everything_and_its_loss_falls(tiny, shapes):
    config = tiny(test_list=shapes / "test.txt", losses=("vv", "pix", "fra"), epochs=12)
    assert fima.main(config) == 0
    written = {path.name for path in config.output.iterdir()}
    assert written == {
        "last.ckpt",
        "backbone.safetensors",
        "config.yaml",
        "metrics.csv",
        "metrics.json",
        "tensorboard",
        "report",
    }
    assert {path.name for path in (config.output / "report").iterdir()} >= {
        "training.png",
        "foreground.png",
        "attention.png",
    }
    rows = losses(config.output)
    assert [int(row["step"]) for row in rows] == list(range(1, 49))
    pixels = [float(row["loss_pix"]) for row in rows]
    assert sum(pixels[-8:]) < sum(pixels[:8]) - 8 * 0.2
    metrics = json.loads((config.output / "metrics.json").read_text())
    assert metrics["protocol"] == "retrieval"
    assert metrics["n_train"] == 16
    assert metrics["n_test"] == 8
    assert metrics["chance"] == pytest.approx(12.5)
    assert metrics["skipped"] == 0
    assert 0 <= metrics["R@1"] <= metrics["R@5"] <= 100
    backbone = load_backbone(config.output / "backbone.safetensors").eval()
    assert backbone(torch.rand(1, 3, 8, 32, 32)).shape == (1, 128, 2, 4, 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(tiny, tmp_path, workers):
    whole = tiny(losses=("vv", "pix", "fra"), output=tmp_path / "whole", workers=workers)
    assert fima.main(whole) == 0
    cut = tiny(losses=("vv", "pix", "fra"), output=tmp_path / "cut", workers=workers, max_steps=5)
    assert fima.main(cut) == 0
    rest = tiny(losses=("vv", "pix", "fra"), output=tmp_path / "cut", workers=0, resume=True)
    assert fima.main(rest) == 0
    assert losses(rest.output) == losses(whole.output)
    first, second = (load_backbone(run.output / "backbone.safetensors").state_dict() for run in (whole, rest))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGTERM, 2), (signal.SIGINT, 2), (signal.SIGKILL, 2)]
)
def test_a_signal_in_the_middle_loses_nothing(tiny, tmp_path, number, workers):
    whole = tiny(output=tmp_path / "whole", epochs=20)
    assert fima.main(whole) == 0
    cut = tiny(output=tmp_path / "cut", epochs=20, workers=workers)
    line = arguments(cut, "--checkpoint-every", "3")
    status, text = interrupted(line, cut.output, 7, number, group=workers > 0)
    steps = len(losses(cut.output))
    if number == signal.SIGKILL:
        assert status == -signal.SIGKILL
    else:
        assert status == 128 + number, text
        assert "--resume continues" in text
        assert "Traceback" not in text
        assert torch.load(cut.output / "last.ckpt", weights_only=True)["motionops"]["step"] == steps
    assert 7 <= steps < 80
    assert fima.main(tiny(output=tmp_path / "cut", epochs=20, resume=True)) == 0
    assert losses(cut.output) == losses(whole.output)


def test_resume_without_a_checkpoint_starts_and_with_other_flags_is_refused(tiny, capsys):
    assert fima.main(tiny(max_steps=2, resume=True)) == 0
    assert "there is no" in capsys.readouterr().err
    with pytest.raises(fima.UserError, match=r"last.ckpt was made with --queue 16, now it is 32"):
        fima.main(tiny(max_steps=4, resume=True, queue=32))
    short = Path(tiny().output / "short.txt")
    short.write_text("\n".join((tiny().data / "train.txt").read_text().splitlines()[:15]))
    with pytest.raises(fima.UserError, match=r"was made of 16 videos, \w+; now they are 15 videos"):
        fima.main(tiny(max_steps=4, resume=True, list=short))


def test_bad_videos_are_skipped_named_and_counted(tiny, shapes, tmp_path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    lines = (shapes / "train.txt").read_text().splitlines()
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join([*lines, f"{broken} 0"]))
    config = tiny(list=listing, max_steps=1)
    assert fima.main(config) == 0
    assert f"skipped {broken}" in capsys.readouterr().err
    metrics = json.loads((config.output / "metrics.json").read_text())
    assert metrics["skipped"] == 1
    assert metrics["skipped_videos"][0]["path"] == str(broken)
    assert metrics["skipped_videos"][0]["reason"]
    with pytest.raises(fima.UserError, match=r"broken.mp4"):
        fima.main(tiny(list=listing, max_steps=1, strict=True))


@pytest.mark.parametrize(
    "flags",
    [
        {"losses": ("vv",)},
        {"losses": ("vd",)},
        {"losses": ("fra",)},
        {"losses": ("pix",), "motion_decoder": "none", "mask_position": "none"},
        {"losses": ("pix",), "motion_decoder": "none", "mask_position": "target", "mask_source": "rgb"},
        {"losses": ("vv", "pix", "fra"), "motion_decoder": "different", "decoder_depth": 1, "decoder_heads": 8},
        {"losses": ("pix", "fra"), "frame_loss": "triplet", "pixel_negatives": "video"},
        {"losses": ("vv", "fra"), "frame_loss": "mse", "enqueue": "between"},
        {"losses": ("vv", "vd", "pix"), "pixel_queue": 64, "mask_source": "difference", "mask_position": "prediction"},
        {"losses": ("pix",), "radius": 1.4, "foreground_ratio": 0.3, "group": 2},
        {"losses": ("vv", "pix", "fra"), "precision": "bf16-mixed"},
        {"optimizer": "sgd", "learning_rate": 0.00375, "schedule": "epoch", "warmup_epochs": 0.0},
    ],
)
def test_every_ablation_runs(tiny, flags):
    config = tiny(max_steps=2, **flags)
    assert fima.main(config) == 0
    rows = losses(config.output)
    assert len(rows) == 2
    assert all(float(row["loss"]) == float(row["loss"]) for row in rows)


def test_videos_of_several_sizes(tiny, shapes, tmp_path):
    from motionops.video import moving_shapes

    other = moving_shapes.generate(tmp_path / "other", train=8, test=8, size=48, progress=False)
    listing = tmp_path / "list.txt"
    lines = [
        f"{folder}/{line}" for folder in (shapes, other) for line in (folder / "train.txt").read_text().split("\n")
    ]
    listing.write_text("\n".join(line for line in lines if line.endswith(tuple("0123456789"))))
    assert fima.main(tiny(data=None, list=listing, max_steps=2, losses=("vv", "pix", "fra"))) == 0


def test_epochs_that_end_before_max_steps_are_said(tiny, capsys):
    assert fima.main(tiny(epochs=1, max_steps=1000)) == 0
    assert "--max-steps 1000: 1 epochs of" in capsys.readouterr().err


def test_two_processes_equal_one_with_the_same_batch(tiny, tmp_path):
    """gloo; BatchNorm replaced, no dropout, negatives of all ranks: the losses are those of one process."""
    runs = {}
    for name, devices in (("one", 1), ("two", 2)):
        config = tiny(
            losses=("vv", "pix", "fra"),
            output=tmp_path / name,
            columns="ranks",
            decoder_dropout=0.0,
            epochs=2,
            queue=32,
        )
        flags = ["--devices", str(devices), "--crop-area", "0.9", "1.0", "--warmup-epochs", "0"]
        flags += ["--optimizer", "sgd", "--learning-rate", "0.1"]  # AdamW amplifies another order of sums step by step
        line = arguments(config, *flags, without_batchnorm=True)
        finished(line)
        runs[name] = losses(config.output)
    assert len(runs["one"]) == len(runs["two"]) == 8
    for one, two in zip(runs["one"], runs["two"], strict=True):
        for name in ("loss", "loss_vv", "loss_pix", "loss_fra", "accuracy"):
            assert float(two[name]) == pytest.approx(float(one[name]), abs=1e-4), (one, two)
