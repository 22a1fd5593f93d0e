"""Supervised training on a backbone: it learns, resumes, keeps a frozen backbone, and measures as it says."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("tyro")
from motionops.commands.evaluate.program import main
from motionops.errors import UserError
from motionops.evaluation import extract_features
from motionops.evaluation.features.backbones import named_backbone
from motionops.evaluation.features.labelled_features import LabelledFeatures
from motionops.evaluation.protocols.classification import ClipProbabilities
from motionops.evaluation.protocols.finetuning.classifier import SupervisedClassifier
from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
from motionops.evaluation.protocols.finetuning.run import finetune
from motionops.evaluation.protocols.finetuning.scoring import classify
from motionops.evaluation.protocols.low_shot import few_videos
from motionops.models import build_backbone, load_backbone, save_backbone
from motionops.training.data.videos import TrainingVideos
from motionops.video import Video
from motionops.video.encoding import write_video
from tests.runs.runs import interrupted
from tests.several_ranks import on_ranks

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def bright_and_dark(tmp_path_factory):
    """24 noisy videos of two classes that differ in brightness: 16 to learn from, 8 to test."""
    folder = tmp_path_factory.mktemp("bright")
    generator = np.random.default_rng(0)
    videos = []
    for number in range(24):
        label = ("dark", "bright")[number % 2]
        level = (60, 180)[number % 2]
        frames = generator.normal(level, 20, size=(10, 32, 40, 3)).clip(0, 255).astype(np.uint8)
        path = folder / f"video{number:02d}.mp4"
        write_video(path, frames)
        videos.append(Video(str(path), label))
    return videos[:16], videos[16:]


def config(output, **change):
    settings = {
        "backbone": "random", "frames": 4, "stride": 2, "size": 16, "epochs": 6, "batch_size": 8, "workers": 0,
        "evaluation_clips": 2, "learning_rate": 3e-3, "jitter": 0.0, "grayscale": 0.0, "warmup_epochs": 0.0,
        "log_every": 1, "classes": ("bright", "dark"), "output": output,
    }  # fmt: skip
    return FinetuneConfig(**{**settings, **change})


def losses(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_it_learns_and_says_what_it_measured(bright_and_dark, tmp_path):
    train, test = bright_and_dark
    status, metrics = finetune(config(tmp_path), train, test)
    assert status == 0
    assert metrics["top1"] == 100.0
    assert (metrics["protocol"], metrics["n_train"], metrics["n_test"], metrics["chance"]) == ("finetune", 16, 8, 50.0)
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    values = losses(tmp_path)
    assert len(values) == 12
    assert np.mean(values[-3:]) < 0.5 * np.mean(values[:3])
    # The backbone that was saved is the one that was trained, and gives the scores again.
    network = SupervisedClassifier(config(tmp_path))
    network.backbone = load_backbone(tmp_path / "backbone.safetensors")
    layer = torch.load(tmp_path / "classifier.pt", weights_only=True)
    assert layer.pop("classes") == ["bright", "dark"]
    network.classifier.load_state_dict(layer)
    scores = extract_features(ClipProbabilities(network), test, clips=2, frames=4, stride=2, size=16)
    assert torch.allclose(scores.sum(dim=1), torch.ones(8), atol=1e-5)
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == pytest.approx(scores.amax(dim=1).tolist(), abs=0.006)
    for name in ("classes.csv", "confusion.csv", "confusion.png", "last.ckpt", "config.yaml"):
        assert (tmp_path / name).stat().st_size > 0


def test_a_frozen_backbone_stays_what_it_was(bright_and_dark, tmp_path):
    train, test = bright_and_dark
    torch.manual_seed(3)
    save_backbone(build_backbone("r3d_small"), tmp_path / "start.safetensors")
    file = str(tmp_path / "start.safetensors")
    _, metrics = finetune(
        config(tmp_path / "run", freeze=True, backbone=file, dropout=0.0, epochs=40, learning_rate=0.03),
        train,
        test,
        protocol="linear",
    )
    assert metrics["protocol"] == "linear"
    assert metrics["top1"] == 100.0
    before, after = (load_backbone(path).state_dict() for path in (file, tmp_path / "run" / "backbone.safetensors"))
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_resumed_is_uninterrupted(bright_and_dark, tmp_path):
    train, test = bright_and_dark
    _, whole = finetune(config(tmp_path / "whole", dropout=0.5, jitter=0.5), train, test)
    change = {"output": tmp_path / "cut", "dropout": 0.5, "jitter": 0.5}
    finetune(config(max_steps=5, **change), train, test)
    _, resumed = finetune(config(resume=True, **change), train, test)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert resumed["top1"] == whole["top1"]
    with pytest.raises(UserError, match="--weights"):
        finetune(config(resume=True, weights="another backbone", **change), train, test)


def test_killed_and_resumed_from_the_command_line(bright_and_dark, tmp_path, capsys):
    train, test = bright_and_dark
    for name, videos in (("train", train), ("test", test)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{v.path} {v.label}\n" for v in videos))
    command = [
        sys.executable, ROOT / "trainers" / "evaluate.py", "finetune", "--backbone", "random",
        "--train", tmp_path / "train.txt", "--test", tmp_path / "test.txt", "--output", tmp_path / "run",
        "--frames", 4, "--size", 16, "--batch-size", 4, "--epochs", 400, "--workers", 0, "--log-every", 1, "--resume",
    ]  # fmt: skip
    command = list(map(str, command))
    status, err = interrupted(command, tmp_path / "run", 6, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM, err
    assert "--resume continues" in err
    steps = (tmp_path / "run" / "metrics.csv").read_text().count("\n") - 1
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert main([*command[2:], "--max-steps", str(steps + 2)]) == 0
    assert f"continuing after step {steps}" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["training"]["steps"] == steps + 2
    assert (tmp_path / "results.csv").read_text().count("\n") == 2


def test_schedules():
    module = SupervisedClassifier(config(Path("x"), learning_rate=1.0, milestones=(2, 4)))
    module.steps_per_epoch, module.total_steps = 10, 60
    rates = []
    for module.step in (0, 19, 20, 39, 40, 59):
        rates.append(module.learning_rate())
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    warm = {"learning_rate": 1.0, "warmup_epochs": 1.0, "warmup_start": 0.1}
    module = SupervisedClassifier(config(Path("x"), milestones=(2,), **warm))
    module.steps_per_epoch, module.total_steps = 10, 60
    for module.step, rate in ((0, 0.1), (5, 0.55), (10, 1.0), (20, 0.1)):
        assert module.learning_rate() == pytest.approx(rate)


def test_short_videos_hold_their_last_frame(tmp_path, counting_frames):
    videos = []
    for number in range(8):
        path = tmp_path / f"video{number}.mp4"
        write_video(path, counting_frames(5, offset=(0, 120)[number % 2]))
        videos.append(Video(str(path), "ab"[number % 2]))
    change = {"output": tmp_path / "run", "classes": ("a", "b"), "epochs": 1, "batch_size": 4}
    with pytest.raises(UserError, match="too short: 5 frames, 7 are needed"):
        finetune(config(**change), videos, videos)
    status, metrics = finetune(config(short="hold", **change), videos, videos)
    assert status == 0
    assert metrics["n_test"] == 8


def test_the_run_does_not_overwrite_what_it_starts_from(bright_and_dark, tmp_path):
    save_backbone(build_backbone("r3d_small"), tmp_path / "backbone.safetensors")
    before = (tmp_path / "backbone.safetensors").read_bytes()
    with pytest.raises(UserError, match="which the run would overwrite"):
        finetune(config(tmp_path, backbone=str(tmp_path / "backbone.safetensors")), *bright_and_dark)
    assert (tmp_path / "backbone.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dropout": 1.0}, "--dropout: must be in [0, 1), got 1.0"),
        ({"jitter": 2.0}, "--jitter: must be in [0, 1], got 2.0"),
        ({"warmup_start": 1.0}, "--warmup-start: must be in [0, 0.003], got 1.0"),
        ({"crops": 0}, "--crops: must be at least 1, got 0"),
        ({"epochs": 0}, "--epochs: must be at least 1, got 0"),
    ],
)
def test_wrong_numbers(change, words, bright_and_dark, tmp_path):
    with pytest.raises(UserError) as caught:
        finetune(config(tmp_path, **change), *bright_and_dark)
    assert words in str(caught.value)


def test_parts_of_the_training_videos_lie_within_each_other():
    videos = [Video(f"c{label}/v_{number:03d}.avi", str(label)) for label in range(5) for number in range(40)]
    parts = {share: few_videos(videos, share, seed=0) for share in (1, 5, 20, 50, 100)}
    assert {share: len(part) for share, part in parts.items()} == {1: 5, 5: 10, 20: 40, 50: 100, 100: 200}
    for small, large in ((1, 5), (5, 20), (20, 50), (50, 100)):
        assert set(parts[small]) <= set(parts[large])
    assert {video.label for video in parts[1]} == set("01234")
    again = few_videos(videos[::-1], 20, seed=0)
    assert set(again) == set(parts[20])
    assert set(few_videos(videos, 20, seed=1)) != set(parts[20])
    three = [Video(f"c/v_{number}.avi", "c") for number in range(3)]
    counts = {share: len(few_videos(three, share, seed=0)) for share in (1, 49, 50, 83, 84)}
    assert counts == {1: 1, 49: 1, 50: 2, 83: 2, 84: 3}  # rounded, at least one


def test_a_class_without_usable_videos_is_no_candidate(monkeypatch):
    """Its column lies between those of two others, and holds the highest score of every test video."""
    test = [Video(f"{n}.mp4", label) for n, label in enumerate("acca")]
    scores = torch.tensor([[0.3, 0.6, 0.1], [0.1, 0.5, 0.4], [0.3, 0.5, 0.2], [0.2, 0.7, 0.1]])
    given = LabelledFeatures(scores, test, [])
    monkeypatch.setattr("motionops.evaluation.protocols.finetuning.scoring.labelled_features", lambda *_, **__: given)
    settings = config(Path("x"), classes=("a", "b", "c"))
    usable = [Video("t0.mp4", "a"), Video("t1.mp4", "c")]
    result, *_ = classify(settings, SupervisedClassifier(settings), TrainingVideos(usable, [], test))
    assert result.classes == ["a", "c"]
    assert [row["predicted"] for row in result.predictions] == ["a", "c", "a", "a"]
    assert [row["score"] for row in result.predictions] == pytest.approx([0.3, 0.4, 0.3, 0.2])
    assert result.metrics["top1"] == 75.0


def test_the_network_is_the_named_backbone():
    network = SupervisedClassifier(config(Path("x"), seed=4))
    expected = named_backbone("random", 4)[0].state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in network.backbone.state_dict().items())


def test_two_processes_give_one_result(bright_and_dark, tmp_path):
    for name, videos in zip(("train", "test"), bright_and_dark, strict=True):
        (tmp_path / f"{name}.txt").write_text("".join(f"{v.path} {v.label}\n" for v in videos))
    command = [
        sys.executable, ROOT / "trainers" / "evaluate.py", "finetune", "--backbone", "random", "--devices", 2,
        "--train", tmp_path / "train.txt", "--test", tmp_path / "test.txt", "--output", tmp_path / "run",
        "--frames", 4, "--size", 16, "--batch-size", 8, "--epochs", 2, "--workers", 0, "--log-every", 1,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top1") == 1
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["training"]["steps"] == 4
    assert (tmp_path / "results.csv").read_text().count("\n") == 2
    assert len(losses(tmp_path / "run")) == 4


def judged(rank, settings, train, test):
    """What two ranks say of the test videos; the second one's weights are others, and so are its videos where told."""
    torch.manual_seed(0)
    module = SupervisedClassifier(settings)
    if rank:
        with torch.no_grad():
            module.classifier.weight += 1.0
        test = test[: settings.max_steps]
    try:
        result = classify(settings, module, TrainingVideos(train, [], test))
    except UserError as error:
        return str(error)
    return None if result is None else (result[0].predictions, result[0].metrics)


def test_all_ranks_classify_the_test_videos(bright_and_dark, tmp_path):
    train, test = bright_and_dark
    settings = config(tmp_path, max_steps=len(test))
    alone = judged(0, settings, train, test)
    assert len(alone[0]) == 8
    scores = pytest.approx([row["score"] for row in alone[0]], rel=1e-6)
    first, second = on_ranks(judged, tmp_path, settings, train, test)
    assert [row["score"] for row in first[0]] == scores
    assert (first[1], second) == (alone[1], None)
    other = tmp_path / "other"
    other.mkdir()
    said = on_ranks(judged, other, config(tmp_path, max_steps=5), train, test)
    assert said[0] == said[1]
    assert "differ in test videos" in said[0]
