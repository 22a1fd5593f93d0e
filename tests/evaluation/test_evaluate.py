"""trainers/evaluate.py from end to end, and what its user's mistakes look like."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("tyro")
pytest.importorskip("torchvision")
pytest.importorskip("safetensors")
from motionops.commandline import run_commands
from motionops.commands.evaluate import program
from motionops.errors import UserError
from motionops.evaluation import evaluate_retrieval, extract_features, retrieval_recall
from motionops.evaluation.features.backbones import named_backbone
from motionops.evaluation.protocols.splits import split_warnings
from motionops.models import build_backbone, save_backbone
from motionops.video import Video, read_list

ROOT = Path(__file__).parent.parent.parent
SETTINGS = {"clips": 2, "frames": 4, "stride": 2, "size": 16}
FLAGS = ["--clips", "2", "--frames", "4", "--size", "16", "--workers", "0", "--device", "cpu"]


def evaluate(*argv):
    return subprocess.run(
        [sys.executable, str(ROOT / "trainers" / "evaluate.py"), *map(str, argv)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # also where the package is built in place but not installed
        timeout=300,
    )


def in_process(*argv):
    """The same program in this process: exit status only, since starting Python and torch costs seconds."""
    return run_commands(program.COMMANDS, "Measure.", list(map(str, argv)), "evaluate.py")


def test_end_to_end(tiny_shapes, tmp_path):
    torch.manual_seed(0)
    backbone = build_backbone("r3d_small")
    save_backbone(backbone, tmp_path / "backbone.safetensors", frames="4", stride="3", size="16", mean="[0, 0, 0]")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    listed = tmp_path / "train.txt"
    listed.write_text((tiny_shapes / "train.txt").read_text() + f"{broken} 0\n")
    done = evaluate(
        "retrieval", "--backbone", tmp_path / "backbone.safetensors", "--data", tiny_shapes, "--train", listed,
        "--test", "test.txt", "--output", tmp_path / "out", "--clips", 2, "--workers", 2, "--device", "cpu",
        "--picture", tmp_path / "strips.png", "--probe",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["protocol"] == "retrieval"
    assert (metrics["n_train"], metrics["n_test"], metrics["classes"]) == (32, 16, 8)
    assert metrics["chance"] == pytest.approx(12.5)
    assert metrics["chance_at"]["R@5"] > 12.5
    assert metrics["skipped"] == 1
    assert metrics["skipped_videos"][0]["path"].endswith("broken.mp4")
    settings = metrics["settings"]
    assert (settings["frames"], settings["stride"], settings["size"], settings["clips"]) == (4, 3, 16, 2)
    assert settings["mean"] == [0.0, 0.0, 0.0]
    for k in (1, 5, 10, 20):
        low, high = metrics["interval"][f"R@{k}"]
        assert 0 <= low <= metrics[f"R@{k}"] <= high <= 100
    assert "R@1" in done.stdout
    assert "broken.mp4" in done.stdout
    assert "Traceback" not in done.stderr
    assert (tmp_path / "strips.png").stat().st_size > 0
    assert 0 <= metrics["probe"] <= 100

    # The same numbers, put together by hand from the parts.
    train, test = (read_list(tiny_shapes / f"{name}.txt", root=tiny_shapes) for name in ("train", "test"))
    features = [
        extract_features(backbone, v, clips=2, frames=4, stride=3, size=16, mean=(0.0,) * 3) for v in (test, train)
    ]
    scores = retrieval_recall(features[0], [v.label for v in test], features[1], [v.label for v in train])
    assert {name: metrics[name] for name in scores} == pytest.approx(scores)


def test_untrained_networks(tiny_shapes, tmp_path):
    assert in_process("retrieval", "--backbone", "random", "--data", tiny_shapes, "--output", tmp_path, *FLAGS) == 0
    first = json.loads((tmp_path / "metrics.json").read_text())
    assert in_process("retrieval", "--backbone", "random", "--data", tiny_shapes, "--output", tmp_path, *FLAGS) == 0
    assert json.loads((tmp_path / "metrics.json").read_text()) == first


def test_named_backbones(tmp_path):
    file = tmp_path / "b.safetensors"
    save_backbone(build_backbone("r3d_small", widths=(4, 4, 8, 8)), file, frames="6", std="[1, 2, 3]")
    loaded, clip = named_backbone(str(file))
    assert clip == {"frames": 6, "stride": 2, "size": 32, "std": (1, 2, 3)}
    untrained, same_clip = named_backbone(f"random:{file}")
    assert same_clip == clip
    assert untrained.channels == loaded.channels == 8
    assert not torch.equal(untrained.stem[0].weight, loaded.stem[0].weight)
    state = torch.get_rng_state()
    again, _ = named_backbone(f"random:{file}")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(untrained.stem[0].weight, again.stem[0].weight)
    assert not torch.equal(untrained.stem[0].weight, named_backbone(f"random:{file}", seed=1)[0].stem[0].weight)
    assert named_backbone("random")[0].name == "r3d_small"


def test_torchvision_backbones(monkeypatch):
    import torchvision.models
    from torchvision.models import video

    real = {name: getattr(video, name) for name in ("r3d_18", "s3d")}
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: real[name](weights=None))
    backbone, clip = named_backbone("torchvision:r3d_18")
    assert backbone.eval()(torch.zeros(1, 3, 8, 32, 32)).shape == (1, 512, 1, 2, 2)
    assert clip["size"] == 112
    assert len(clip["mean"]) == 3
    backbone, clip = named_backbone("torchvision:s3d")
    assert backbone.eval()(torch.zeros(1, 3, 16, 32, 32)).shape[:2] == (1, 1024)

    def no_network(name, weights):
        raise OSError("name or service not known")

    monkeypatch.setattr(torchvision.models, "get_model", no_network)
    with pytest.raises(UserError, match="cannot be fetched: name or service not known"):
        named_backbone("torchvision:r3d_18")
    with pytest.raises(UserError, match="torchvision:resnet50 is not known here"):
        named_backbone("torchvision:resnet50")


def test_mistakes_are_one_line(tiny_shapes, tmp_path, capsys):
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    unlabelled = tmp_path / "unlabelled.txt"
    unlabelled.write_text("slide/slide_train_0000.mp4\n")
    file = tmp_path / "file"
    file.write_text("x")
    base = {"--backbone": "random", "--data": tiny_shapes, "--output": tmp_path / "out"}
    for change, words in (
        ({"--backbone": tmp_path / "no.safetensors"}, "no.safetensors"),
        ({"--backbone": file}, "file"),
        ({"--backbone": "random:resnet"}, "resnet"),
        ({"--backbone": "torchvision:nothing"}, "nothing"),
        ({"--data": tmp_path / "nowhere"}, "--data: there is no folder"),
        ({"--train": "nowhere.txt"}, "--train: nowhere.txt: no such list"),
        ({"--test": empty}, "empty.txt"),
        ({"--train": unlabelled}, "without a label"),
        ({"--output": file / "below"}, "--output: cannot write in"),
        ({"--clips": 0}, "--clips: must be at least 1, got 0"),
        ({"--crop": 2}, "--crop: must be in (0, 1], got 2"),
        ({"--ks": 0}, "--ks: must be at least 1, got 0"),
        ({"--ks": ""}, "ks"),
        ({"--frames": 100}, "too short"),
        ({"--device": "abacus"}, "abacus"),
        ({"--device": "cuda:99"}, "cuda:99"),
        ({"--workers": -1}, "workers"),
        ({"--seed": -1}, "--seed: must be at least 0, got -1"),
        ({"--picture": file / "a.png"}, "--picture: cannot write in"),
        ({"--bad": 1}, "--bad"),
    ):
        argv = [str(part) for pair in {**base, "--workers": 0, **change}.items() for part in pair]
        assert in_process("retrieval", *argv) == 2, change
        err = capsys.readouterr().err
        line = re.sub(r"^(.*\r)?features: .*\n", "", err, flags=re.M)  # without the progress bars
        assert line.startswith("error: "), (change, err)
        assert line.count("\n") == 1, (change, err)
        assert words in line, (change, err)
    assert in_process("retrieval") == 2
    assert "--backbone" in capsys.readouterr().err


def test_strict_stops_and_many_unusable_videos_do_too(tiny_shapes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(tiny_shapes, data)
    train, test = (read_list(data / f"{name}.txt", root=data) for name in ("train", "test"))
    backbone = build_backbone("r3d_small")
    Path(train[0].path).write_bytes(b"x")
    metrics = evaluate_retrieval(backbone, train, test, **SETTINGS, mean=[0.5, 0.5, 0.5])
    assert metrics["skipped"] == 1
    assert metrics["n_train"] == 31
    assert metrics["settings"]["mean"] == [0.5, 0.5, 0.5]  # numbers, given as a list or a tuple
    with pytest.raises(UserError, match=re.escape(train[0].path)):
        evaluate_retrieval(backbone, train, test, **SETTINGS, strict=True)
    for video in train[1:4]:
        Path(video.path).unlink()
    with pytest.raises(UserError, match="4 of 32 videos cannot be used"):
        evaluate_retrieval(backbone, train, test, **SETTINGS)


def test_warnings(tiny_shapes):
    train = [Video("a/v_Run_g01_c01.avi", "0"), Video("a/v_Run_g02_c01.avi", "0"), Video("a/other.avi", "1")]
    assert split_warnings(train, [Video("b/v_Run_g03_c01.avi", "0")]) == []
    (line,) = split_warnings(train, [Video("b/v_Run_g02_c04.avi", "0")])
    assert "v_Run_g02" in line
    assert line.startswith("1 groups")
    (line,) = split_warnings(train, [Video("a/other.avi", "1")])
    assert "1 videos are in both lists" in line
    (line,) = split_warnings(train, [Video("b/x.avi", "0"), Video("b/y.avi", "7"), Video("b/z.avi", "7")])
    assert "1 classes" in line
    assert "(7)" in line
    assert "2 videos count as wrong" in line

    said = []
    train, test = (read_list(tiny_shapes / f"{name}.txt", root=tiny_shapes) for name in ("train", "test"))
    metrics = evaluate_retrieval(
        build_backbone("r3d_small"), train, train[:8], **SETTINGS, ks=(1, 50), warn=said.append
    )
    assert metrics["R@1"] == 100.0  # each video finds itself
    assert said == metrics["warnings"]
    assert "both lists" in said[0]
    assert "k above 32" in said[1]
    with pytest.raises(UserError, match="no class in common"):
        evaluate_retrieval(build_backbone("r3d_small"), train, [Video(v.path, "x" + v.label) for v in test], **SETTINGS)
    with pytest.raises(UserError, match="the test list holds no video"):
        evaluate_retrieval(build_backbone("r3d_small"), train, [], **SETTINGS)
