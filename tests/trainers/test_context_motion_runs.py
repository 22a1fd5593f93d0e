"""Whole runs of Context-Motion Decoupling: learning, resumption, a kill, several processes, ablations, real videos."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import context_motion
import numpy as np
import pytest
import torch

from motionops.commandline import run
from motionops.errors import UserError
from motionops.models import load_backbone, read_metadata
from tests.trainers.runs import DATA, command, finished, interrupted, logged

LOSSES = ("loss", "loss_context", "loss_motion", "accuracy_context", "accuracy_motion")
SAME = ("step", "epoch", *LOSSES, "accuracy", "learning_rate")

TINY = {
    "batch_size": 4,
    "size": 16,
    "frames": 4,
    "motion_frames": 4,
    "alpha": 0.5,
    "epochs": 3,
    "width": 16,
    "feedforward": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "hidden": 16,
    "dim": 16,
    "workers": 0,
    "log_every": 1,
    "evaluation_clips": 1,
}


def tiny(shapes, output, **changes):
    listing = None if "data" in changes else shapes / "train.txt"
    own = {"data": shapes, "list": listing, "output": output, **TINY}
    return replace(context_motion.ContextMotionConfig(), **{**own, **changes})


def losses(folder):
    return logged(folder, SAME)


def arguments(config, *more, **how):
    return command(config, ("data", "list", "output", *TINY), "context_motion", *more, **how)


def test_a_run_writes_everything_and_its_losses_fall(shapes, tmp_path):
    config = tiny(shapes, tmp_path / "run", test_list=shapes / "test.txt", epochs=20, learning_rate=5e-3, seed=1)
    assert context_motion.main(config) == 0
    assert {path.name for path in (config.output / "report").iterdir()} >= {"training.png", "motion.png"}
    rows = losses(config.output)
    assert len(rows) == 80
    for name, least in (("loss_context", 0.1), ("loss_motion", 0.5)):
        values = [float(row[name]) for row in rows]
        assert sum(values[-8:]) < sum(values[:8]) - 8 * least
    assert json.loads((config.output / "metrics.json").read_text())["protocol"] == "retrieval"
    assert load_backbone(config.output / "backbone.safetensors").name == "r3d_small"
    assert load_backbone(config.output / "image_backbone.safetensors").name == "r2d_small"
    assert read_metadata(config.output / "image_backbone.safetensors")["frames"] == "1"
    assert load_backbone(config.output / "motion_backbone.safetensors").kwargs == {"inputs": 2}


def test_a_resumed_run_equals_an_uninterrupted_one(shapes, tmp_path):
    whole = tiny(shapes, tmp_path / "whole")
    assert context_motion.main(whole) == 0
    assert context_motion.main(tiny(shapes, tmp_path / "cut", max_steps=5, workers=2, cache_gib=0.0)) == 0
    assert context_motion.main(tiny(shapes, tmp_path / "cut", resume=True)) == 0
    assert losses(tmp_path / "cut") == losses(whole.output)
    first, second = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"] for name in ("whole", "cut")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_kill_loses_nothing_that_was_saved(shapes, tmp_path):
    whole = tiny(shapes, tmp_path / "whole", epochs=10)
    assert context_motion.main(whole) == 0
    cut = tiny(shapes, tmp_path / "cut", epochs=10)
    interrupted(arguments(cut, "--checkpoint-every", "3"), cut.output, steps=7)
    assert context_motion.main(tiny(shapes, tmp_path / "cut", epochs=10, resume=True)) == 0
    assert losses(cut.output) == losses(whole.output)


def test_two_processes_equal_one_with_the_same_batch(shapes, tmp_path):
    """gloo; BatchNorm replaced, no dropout: with keys of all ranks the losses are those of one process."""
    runs = {}
    for name, devices in (("one", 1), ("two", 2)):
        config = tiny(shapes, tmp_path / name, epochs=2)
        line = arguments(
            config,
            *("--devices", str(devices), "--warmup-epochs", "0", "--dropout", "0"),
            *("--optimizer", "sgd", "--learning-rate", "0.1"),  # AdamW amplifies another order of sums
            without_batchnorm=True,
        )
        finished(line)
        runs[name] = losses(config.output)
    assert len(runs["one"]) == len(runs["two"]) == 8
    for one, two in zip(runs["one"], runs["two"], strict=True):
        for name in LOSSES[:3]:
            assert float(two[name]) == pytest.approx(float(one[name]), abs=1e-4), (one, two)


@pytest.mark.parametrize(
    "flags",
    [
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"period": "current", "hard_negatives": 0},
        {"predictor": "convgru"},
        {"motion_loss": "mse"},
        {"motion_loss": "cross-entropy", "levels": 4},
        {"motion": "tvl1", "motion_frames": 2, "hard_negatives": 1},
        {"motion": "tvl1", "motion_frames": 2, "hard_negatives": 1, "alpha": 1.0, "period": "current"},
        {"cell": 4, "fill_key_frames": False, "negatives": "local"},
        {"image_backbone": "r2d_10", "motion_backbone": "r3d_10", "size": 32},
        {"precision": "bf16-mixed", "optimizer": "sgd", "schedule": "epoch"},
    ],
)
def test_every_ablation_runs(shapes, tmp_path, flags):
    assert context_motion.main(tiny(shapes, tmp_path / "run", max_steps=2, **flags)) == 0
    (first, _) = losses(tmp_path / "run")
    assert ("loss_context" in first) == (flags.get("alpha") != 1.0)
    assert ("loss_motion" in first) == (flags.get("alpha") != 0.0)


def test_a_classifier_with_and_without_the_regulariser(shapes, tmp_path):
    for regularise in (0.2, 0.0):
        config = tiny(
            shapes,
            tmp_path / str(regularise),
            test_list=shapes / "test.txt",
            supervised=True,
            regularise=regularise,
            max_steps=3,
        )
        assert context_motion.main(config) == 0
        metrics = json.loads((config.output / "metrics.json").read_text())
        assert metrics["protocol"] == "finetune"
        assert 0 <= metrics["top1"] <= metrics["top5"] <= 100
        assert (config.output / "classes.csv").exists()
        assert ("loss_motion" in losses(config.output)[0]) == (regularise > 0)


def test_a_finished_run_is_measured_by_its_motion_network(shapes, tmp_path):
    given = {"test_list": shapes / "test.txt", "max_steps": 2, "evaluation_clips": 3}
    assert context_motion.main(tiny(shapes, tmp_path / "run", **given)) == 0
    visual = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert context_motion.main(tiny(shapes, tmp_path / "run", **given, resume=True, retrieval="motion")) == 0
    motion = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert motion["network"] == "motion"
    assert motion["protocol"] == visual["protocol"] == "retrieval"
    assert (motion["n_train"], motion["n_test"]) == (16, 8)
    assert motion["settings"]["frames"] == 4
    assert motion["training"]["steps"] == 2


def test_training_goes_on_from_given_weights(shapes, tmp_path):
    assert context_motion.main(tiny(shapes, tmp_path / "first", max_steps=1)) == 0
    config = tiny(shapes, tmp_path / "second", init=tmp_path / "first" / "backbone.safetensors")
    module = context_motion.ContextMotion(config)
    expected = load_backbone(config.init).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in module.backbone.state_dict().items())


def encoded(folder, encoder, count, options=None):
    """Videos of a moving texture in a folder of two classes; skips where PyAV was built without the encoder."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number}.mkv"
        path.parent.mkdir(parents=True, exist_ok=True)
        texture = generator.integers(0, 256, (8, 24, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        try:
            with av.open(str(path), "w") as container:
                stream = container.add_stream(encoder, rate=25, options=options or {})
                stream.height, stream.width, stream.pix_fmt, stream.gop_size = 64, 64, "yuv420p", 12
                for t in range(24):
                    frame = np.ascontiguousarray(texture[:, 2 * t : 2 * t + 64])
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
                container.mux(stream.encode())
        except av.codec.codec.UnknownCodecError:
            pytest.skip(f"this PyAV has no encoder {encoder}")


def test_a_codec_without_vectors_is_one_line_that_names_what_mends_it(tmp_path):
    encoded(tmp_path / "data", "libvpx-vp9", 4, {"deadline": "realtime", "cpu-used": "8"})
    config = tiny(None, tmp_path / "run", data=tmp_path / "data")
    with pytest.raises(UserError, match=r"vp9.*python -m motionops.video.prepare reencode") as error:
        context_motion.main(config)
    assert "\n" not in str(error.value)


def test_streams_with_b_frames_train_with_a_warning(tmp_path):
    encoded(tmp_path / "data", "libx264", 4, {"bf": "2", "b-adapt": "0"})
    config = tiny(None, tmp_path / "run", data=tmp_path / "data", max_steps=1)
    with pytest.warns(UserWarning, match=r"the stream has .*B-frames.*python -m motionops.video.prepare reencode"):
        assert context_motion.main(config) == 0


def test_a_broken_video_is_replaced_and_named(shapes, tmp_path, capsys):
    for name in ("slide", "rise"):
        shutil.copytree(shapes / name, tmp_path / "data" / name)
    config = tiny(None, tmp_path / "run", data=tmp_path / "data", max_steps=2)
    victim = sorted((tmp_path / "data" / "slide").glob("*.mp4"))[0]
    find = context_motion.find_videos

    def find_then_break(*given):
        found = find(*given)
        victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
        return found

    context_motion.find_videos = find_then_break
    try:
        assert context_motion.main(config) == 0
    finally:
        context_motion.find_videos = find
    metrics = json.loads((config.output / "metrics.json").read_text())
    assert [Path(video["path"]).name for video in metrics["skipped_videos"]] == [victim.name]


@pytest.mark.filterwarnings("ignore:.*the stream has several reference pictures")
@pytest.mark.parametrize("folder", ["weizmann4", "surv_fight"])
def test_real_videos(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    if not (DATA / folder).is_dir():
        pytest.skip(f"the videos of {folder} are not here")
    line = ["--data", str(DATA / folder), "--output", str(tmp_path / "run"), "--max-steps", "2", "--batch-size", "4"]
    assert run(context_motion.main, context_motion.ContextMotionConfig, context_motion.PRESETS, line) == 0
