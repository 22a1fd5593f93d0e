"""Whole runs of MCL: learning, resumption, a kill, several processes, ablations, odd and real videos."""

import json
from dataclasses import replace

import mcl
import numpy as np
import pytest
import torch

from motionops.models import build_backbone, load_backbone, save_backbone
from motionops.video.encoding import write_video
from tests.trainers.runs import DATA, command, finished, interrupted, logged

SAME = ("step", "epoch", "loss", "loss_nce", "loss_st", "loss_s", "loss_t", "loss_intra", "loss_order", "accuracy")

TINY = {
    "batch_size": 4,
    "size": 32,
    "epochs": 3,
    "queue": 16,
    "hidden": 16,
    "dim": 16,
    "frames": 4,
    "workers": 0,
    "log_every": 1,
    "evaluation_clips": 1,
}
# The flags of a command line that makes a tiny run.
NAMED = ("data", "list", "output", "motion_file", "motion_source", "backbone", *TINY)


def tiny(shapes, output, **changes):
    """A configuration of a run of 12 steps."""
    own = {"data": shapes, "list": shapes / "train.txt", "output": output, **TINY}
    return replace(mcl.MCLConfig(), **{**own, **changes})


def losses(folder):
    return logged(folder, (*SAME, "learning_rate"))


def arguments(config, *more, **how):
    return command(config, NAMED, "mcl", *more, **how)


@pytest.fixture(scope="session")
def motion_cache(tmp_path_factory):
    """One cache folder for all runs here: the motion of a set of videos is computed once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(motion_cache, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(motion_cache))


def test_a_run_writes_everything_and_its_loss_falls(shapes, tmp_path):
    config = tiny(shapes, tmp_path / "run", test_list=shapes / "test.txt", epochs=15, alignment_variant="v1")
    assert mcl.main(config) == 0
    written = {path.name for path in config.output.iterdir()}
    files = "last.ckpt backbone.safetensors config.yaml metrics.csv metrics.json tensorboard report"
    assert written == set(files.split())
    assert {path.name for path in (config.output / "report").iterdir()} >= {"training.png", "motion.png"}
    rows = losses(config.output)
    assert [int(row["step"]) for row in rows] == list(range(1, 61))
    for name in ("loss", "loss_st"):
        values = [float(row[name]) for row in rows]
        assert sum(values[-8:]) < sum(values[:8]) - 8 * 0.1
    metrics = json.loads((config.output / "metrics.json").read_text())
    assert metrics["protocol"] == "retrieval"
    assert metrics["n_train"] == 16
    assert load_backbone(config.output / "backbone.safetensors").name == "r3d_small"


@pytest.mark.parametrize("source", ["prepared", "on-the-fly"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(shapes, tmp_path, workers, source):
    common = {"alignment_variant": "v3", "motion_source": source, "epochs": 2}
    whole = tiny(shapes, tmp_path / "whole", workers=workers, **common)
    assert mcl.main(whole) == 0
    assert mcl.main(tiny(shapes, tmp_path / "cut", workers=workers, max_steps=3, **common)) == 0
    rest = tiny(shapes, tmp_path / "cut", workers=0, resume=True, **common)
    assert mcl.main(rest) == 0
    assert losses(rest.output) == losses(whole.output)
    first, second = (load_backbone(run.output / "backbone.safetensors").state_dict() for run in (whole, rest))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_kill_in_the_middle_loses_nothing(shapes, tmp_path):
    whole = tiny(shapes, tmp_path / "whole", epochs=10)
    assert mcl.main(whole) == 0
    cut = tiny(shapes, tmp_path / "cut", epochs=10)
    line = arguments(cut, "--checkpoint-every", "3", "--alignment-variant", "v3", "--weight-nce", "1")
    interrupted(line, cut.output, steps=7)
    assert 7 <= len(losses(cut.output)) < 40
    assert mcl.main(tiny(shapes, tmp_path / "cut", epochs=10, resume=True)) == 0
    assert losses(cut.output) == losses(whole.output)


def test_two_processes_equal_one_with_the_same_batch(shapes, tmp_path):
    """gloo; BatchNorm replaced: the losses are those of one process."""
    runs = {}
    for name, devices in (("one", 1), ("two", 2)):
        config = tiny(shapes, tmp_path / name, epochs=2, queue=32)
        flags = ["--devices", str(devices), "--warmup-epochs", "0", "--alignment-variant", "v3", "--weight-nce", "1"]
        flags += ["--optimizer", "sgd", "--learning-rate", "0.1"]  # AdamW amplifies another order of sums step by step
        line = arguments(config, *flags, without_batchnorm=True)
        finished(line)
        runs[name] = losses(config.output)
    assert len(runs["one"]) == len(runs["two"]) == 8
    for one, two in zip(runs["one"], runs["two"], strict=True):
        for name in ("loss", "loss_nce", "loss_st", "loss_s", "loss_t"):
            assert float(two[name]) == pytest.approx(float(one[name]), abs=1e-4), (one, two)


@pytest.mark.parametrize(
    "flags",
    [
        {"motion": False},
        {"spatial_crop": False, "weight_alignment": 0.0},
        {"temporal_sampling": False, "weight_alignment": 0.0},
        {"weight_alignment": 0.0},
        {"alignment": ("t",)},
        {"alignment": ("s",), "alignment_form": "released"},
        {"alignment": ("st",), "alignment_variant": "v1"},
        {"alignment_variant": "v2", "crop_form": "released", "crop_probability": 0.7, "temporal_probability": 0.7},
        {"alignment_boost": 2.0, "alignment_boost_epochs": 1, "group": 2},
        {"seco": ("intra", "order"), "queue": 32},
        {"seco": ("intra",), "queue": 32, "motion_source": "on-the-fly"},
        {"motion_source": "on-the-fly", "spatial_crop": False},
        {"motion_source": "on-the-fly", "weight_alignment": 0.0, "stride": 1},
        {"backbone": "i2d", "frames": 1, "alignment": ("s",)},
        {"backbone": "s3d", "frames": 8},
        {"optimizer": "sgd", "learning_rate": 0.01, "warmup_epochs": 0.0, "precision": "bf16-mixed"},
    ],
)
def test_every_ablation_runs(shapes, tmp_path, flags):
    config = tiny(shapes, tmp_path / "run", max_steps=2, **flags)
    assert mcl.main(config) == 0
    rows = losses(config.output)
    assert len(rows) == 2
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    assert ("loss_t" in rows[0]) == (config.aligns() and "t" in config.alignment)


def test_presets_are_the_papers():
    paper = mcl.PRESETS["ucf101"]
    assert (paper.frames, paper.stride, paper.size, paper.epochs) == (16, 2, 224, 200)
    assert (paper.batch_size, paper.queue, paper.momentum, paper.temperature) == (64, 131072, 0.999, 0.1)
    assert (paper.learning_rate, paper.hidden, paper.dim, paper.backbone) == (0.01, 2048, 128, "r2plus1d_50")
    assert (paper.alignment_variant, paper.alignment_form, paper.seco) == ("v3", "paper", ())
    assert mcl.PRESETS["kinetics400"].epochs == 400
    released = mcl.PRESETS["ucf101-released"]
    assert (released.batch_size, released.warmup_epochs, released.alignment_form) == (32, 5.0, "released")
    assert (released.temporal_probability, released.crop_probability) == (0.7, 1.0)  # in space motion always decides
    assert (released.alignment_boost, released.alignment_boost_epochs) == (2.0, 5)
    for name, preset in mcl.PRESETS.items():
        assert preset.preset == name or name == "demo"
        mcl.check(replace(preset))


def test_training_starts_from_given_weights(shapes, tmp_path):
    torch.manual_seed(5)
    backbone = build_backbone("r3d_small")
    save_backbone(backbone, tmp_path / "start.safetensors")
    module = mcl.MCL(tiny(shapes, tmp_path / "run", init=tmp_path / "start.safetensors"))
    for network in (module.backbone, module.key_backbone.network):
        assert torch.equal(network.stem[0].weight, backbone.stem[0].weight)


def odd_videos(folder):
    """Videos that have something the matter, and a list of them."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (20, 48, 48, 3), dtype=np.uint8)
    still = np.broadcast_to(noise[:1], (20, 48, 48, 3))
    shifted = np.stack([np.roll(noise[0], 2 * t, axis=1) for t in range(20)])
    made = {
        "still": still,
        "moving": shifted,
        "black": np.zeros((20, 48, 48, 3), dtype=np.uint8),
        "flat": np.stack([np.roll(noise[0, :4], 2 * t, axis=1) for t in range(20)]),
        "other": np.stack([np.roll(noise[1], 2 * t, axis=0) for t in range(20)]),
        "wide": np.stack([np.roll(noise[2, :16], t, axis=1) for t in range(20)]),
    }
    short = {"single": noise[:1], "short": noise[:3]}
    folder.mkdir()
    for name, frames in {**made, **short}.items():
        write_video(folder / f"{name}.mp4", np.ascontiguousarray(frames))
    (folder / "good.txt").write_text("".join(f"{name}.mp4\n" for name in made))
    (folder / "all.txt").write_text("".join(f"{name}.mp4\n" for name in [*made, *short]))


@pytest.mark.parametrize("source", ["prepared", "on-the-fly"])
def test_videos_without_motion_and_of_four_rows(tmp_path, source, capsys):
    odd_videos(tmp_path / "odd")
    flags = {"data": tmp_path / "odd", "list": tmp_path / "odd" / "good.txt", "epochs": 2, "motion_source": source}
    config = replace(tiny(tmp_path, tmp_path / "run"), batch_size=3, **flags)
    assert mcl.main(config) == 0
    rows = losses(config.output)
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    with pytest.raises(mcl.UserError, match=r"single\.mp4|short\.mp4"):
        mcl.main(replace(config, list=tmp_path / "odd" / "all.txt"))
    assert "frames" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["weizmann4", "surv_fight"])
@pytest.mark.parametrize("source", ["prepared", "on-the-fly"])
def test_real_videos(tmp_path, name, source):
    listing = DATA / name / "train.txt"
    if not listing.exists():
        pytest.skip(f"{listing} is not there")
    few = tmp_path / "few.txt"
    few.write_text("".join(f"{DATA / name}/{line}\n" for line in listing.read_text().splitlines()[:3]))
    config = tiny(tmp_path, tmp_path / "run", max_steps=1, motion_source=source, batch_size=2)
    assert mcl.main(replace(config, data=DATA / name, list=few)) == 0
    assert len(losses(config.output)) == 1
