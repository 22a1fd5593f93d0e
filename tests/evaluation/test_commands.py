"""The commands of evaluate.py beside retrieval, from flags to files, and what their user's mistakes look like."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tyro")
pytest.importorskip("sklearn")
pytest.importorskip("lightning")
from motionops.commandline import parse, run_commands
from motionops.commands.evaluate import program
from motionops.commands.evaluate.finetune import Finetune
from motionops.commands.evaluate.inputs import Inputs, measurement_inputs
from motionops.commands.evaluate.outcome import result_row
from motionops.commands.evaluate.retrieval import Retrieval
from motionops.evaluation import extract_features
from motionops.evaluation.features.backbones import named_backbone
from motionops.evaluation.protocols.comparison import Run, difference, format_comparison
from motionops.evaluation.protocols.papers import PROTOCOLS, protocol_settings
from motionops.evaluation.written.results import append_result, read_results
from motionops.video import read_list
from tests.several_ranks import ready_to_fork

ROOT = Path(__file__).parent.parent.parent
FLAGS = ["--clips", "2", "--frames", "4", "--size", "16", "--workers", "0"]


@pytest.fixture(scope="module")
def commands():
    return program.COMMANDS


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def evaluate(commands):
    return lambda *argv: run_commands(commands, "Measure.", list(map(str, argv)), "evaluate.py")


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("command", ["linear", "svm"])
def test_classifiers_on_features(evaluate, tiny_shapes, tmp_path, capsys, command):
    argv = [command, "--backbone", "random", "--data", tiny_shapes, "--output", tmp_path / "run", *FLAGS]
    assert evaluate(*argv) == 0
    shown = capsys.readouterr()
    assert "top1" in shown.out
    assert "features: 100%" in shown.err.replace("\r", "\n")
    metrics = metrics_of(tmp_path / "run")
    assert metrics["protocol"] == command
    assert (metrics["n_train"], metrics["n_test"], metrics["classes"]) == (32, 16, 8)
    assert (metrics["chance"], metrics["chance_at"]["top5"]) == (12.5, 62.5)
    for name in ("top1", "top5", "mean_class"):
        low, high = metrics["interval"][name]
        assert 0 <= low <= metrics[name] <= high <= 100
    assert metrics["settings"]["clips"] == 2
    for name in ("predictions.csv", "classes.csv", "confusion.csv", "confusion.png"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    with open(tmp_path / "run" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert 100 * sum(row["label"] == row["predicted"] for row in rows) / 16 == metrics["top1"]
    # Again: nothing is decoded, nothing differs, and there is a second row of results.
    assert evaluate(*argv) == 0
    assert "features: 100%" not in capsys.readouterr().err
    assert metrics_of(tmp_path / "run") == metrics
    _, rows = read_results(tmp_path / "results.csv")
    assert [row["protocol"] for row in rows] == [command, command]
    assert float(rows[0]["top1"]) == pytest.approx(metrics["top1"])


def test_a_linear_layer_on_augmented_clips(evaluate, tiny_shapes, tmp_path):
    assert (
        evaluate(
            "linear", "--protocol", "fima", "--backbone", "random", "--data", tiny_shapes, "--output", tmp_path / "run",
            *FLAGS, "--max-steps", 2,
        )
        == 0
    )  # fmt: skip
    metrics = metrics_of(tmp_path / "run")
    assert metrics["protocol"] == "linear"
    settings = metrics["settings"]
    assert settings["freeze"] is True
    assert (settings["learning_rate"], settings["batch_size"], settings["epochs"]) == (1.5, 16, 100)
    assert settings["milestones"] == [60, 80]


def test_low_shot(evaluate, tiny_shapes, tmp_path):
    base = ["lowshot", "--backbone", "random", "--data", tiny_shapes, *FLAGS]
    assert evaluate(*base, "--output", tmp_path / "a", "--fit", "features", "--shares", "1,50,100") == 0
    metrics = metrics_of(tmp_path / "a")
    assert metrics["protocol"] == "lowshot"
    assert [(part["share"], part["n_train"]) for part in metrics["at"]] == [(1.0, 8), (50.0, 16), (100.0, 32)]
    assert metrics["top1"] == metrics["at"][-1]["top1"]
    assert (tmp_path / "a" / "lowshot.png").exists()
    assert metrics_of(tmp_path / "a" / "share-50")["share"] == 50.0
    assert evaluate(*base, "--output", tmp_path / "b", "--shares", 25, "--epochs", 1) == 0
    assert metrics_of(tmp_path / "b")["at"][0]["n_train"] == 8
    _, rows = read_results(tmp_path / "results.csv")
    assert [float(row["share"]) for row in rows] == [1, 50, 100, 25]
    # What was measured before a stop is not appended again; a share that is new is.
    again = [*base, "--output", tmp_path / "b", "--epochs", 1, "--resume"]
    assert evaluate(*again, "--shares", "25,50") == 0
    _, rows = read_results(tmp_path / "results.csv")
    assert [float(row["share"]) for row in rows] == [1, 50, 100, 25, 50]


def test_compare(evaluate, tiny_shapes, tmp_path, capsys):
    base = ["--backbone", "random", "--data", tiny_shapes, *FLAGS]
    for seed in (0, 1):
        assert evaluate("linear", *base, "--seed", seed, "--output", tmp_path / f"seed{seed}") == 0
    assert evaluate("retrieval", *base, "--output", tmp_path / "retrieval") == 0
    capsys.readouterr()
    runs = [tmp_path / name for name in ("seed0", "seed1", "retrieval")]
    assert evaluate("compare", *runs, "--output", tmp_path / "compared") == 0
    out = capsys.readouterr().out
    assert re.search(r"seed1 .*\([+-][\d.]+ to [+-][\d.]+\)", out)
    assert "R@1" in out
    assert (tmp_path / "compared" / "compare.png").stat().st_size > 0
    assert evaluate("compare", tmp_path / "nothing") == 2
    assert "there is no metrics.json" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.json").write_text("{}")
    assert evaluate("compare", tmp_path / "empty") == 2
    assert "holds no scores" in capsys.readouterr().err


def test_paired_differences_by_hand():
    def run(name, right):
        interval = {"top1": [0.0, 100.0]}
        top = 100.0 * sum(right) / len(right)
        videos = {f"v{place}": bool(value) for place, value in enumerate(right)}
        sizes = {"protocol": "linear", "n_train": 4, "n_test": len(right)}
        return Run(name, {"top1": top, "interval": interval, "chance_at": {"top1": 25.0}, **sizes}, {"top1": videos})

    first, other = run("a", [1, 0] * 50), run("b", [1, 1] * 50)
    value, low, high = difference(first, other, "top1")
    assert value == 50.0
    # Half of the gains are 1, half 0: 1.96 standard errors of 5 points each way.
    assert low == pytest.approx(50 - 9.8, abs=1.1)
    assert high == pytest.approx(50 + 9.8, abs=1.1)
    assert difference(first, first, "top1") == (0.0, 0.0, 0.0)
    assert difference(first, run("c", [1, 0, 1]), "top1") is None
    assert "+50.0" in format_comparison([first, other])


@pytest.mark.parametrize("scores", [{"R@1": 40.0, "R@5": 80.0}, {"top1": 40.0, "top5": 80.0}])
def test_a_row_of_results_has_the_interval_of_its_main_score(tiny_shapes, tmp_path, scores):
    config = Retrieval("random", data=tiny_shapes, output=tmp_path)
    metrics = {"protocol": "retrieval", "n_train": 8, "n_test": 4, "classes": 2, "chance": 50.0, "majority": 50.0}
    metrics |= {**scores, "interval": {name: [value - 10, value + 5] for name, value in scores.items()}, "settings": {}}
    row = result_row(config, Inputs([], [], None, "abc", {}), metrics)
    assert (row["low"], row["high"], row["fingerprint"]) == (30.0, 45.0, "abc")
    assert {name: row[name] for name in scores} == scores


def test_a_row_that_differs_in_its_time_alone_is_the_same(tmp_path):
    """As of a measurement that is resumed when it had been measured already."""
    row, file = {"protocol": "linear", "top1": 50.0, "seed": 1}, tmp_path / "results.csv"
    for time, further in (("first", {}), ("second", {}), ("third", {"seed": 2})):
        append_result({**row, "time": time, **further}, file, twice=False)
    append_result({**row, "time": "fourth"}, file)
    assert [one["time"] for one in read_results(file)[1]] == ["first", "third", "fourth"]


def test_results_are_appended_whole(tmp_path):
    file = tmp_path / "results.csv"
    append_result({"protocol": "linear", "top1": 12.3456}, file)
    append_result({"protocol": "svm", "top1": 50.0}, file)
    with open(file, "a") as stream:
        stream.write("2026,half")  # as a cut leaves it
    append_result({"protocol": "retrieval", "R@1": 1.0, "R@50": 2.0}, file)
    columns, rows = read_results(file)
    assert columns[-1] == "R@50"
    assert [row["protocol"] for row in rows] == ["linear", "svm", "retrieval"]
    assert rows[0]["top1"] == "12.35"
    assert rows[0]["R@50"] == ""


def test_results_of_many_processes(tmp_path):
    file = tmp_path / "results.csv"
    rows = [({"protocol": f"p{number}", f"column{number % 3}": number}, file) for number in range(8)]
    with ready_to_fork().Pool(4) as pool:
        pool.starmap(append_result, rows)
    _, found = read_results(file)
    assert sorted(row["protocol"] for row in found) == sorted(row["protocol"] for row, _ in rows)


def test_mistakes_are_one_line(evaluate, tiny_shapes, tmp_path, capsys):
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    base = {"--backbone": "random", "--data": tiny_shapes, "--output": tmp_path / "out", "--workers": 0}
    for command, change, words in (
        ("linear", {"--C": 0}, "--C: must be positive, got 0"),
        ("linear", {"--protocol": "context-motion"}, "the paper of context-motion has no linear evaluation"),
        ("linear", {"--protocol": "nobody"}, "--protocol"),
        ("linear", {"--fit": "sgd", "--C": 1}, "--C: is of --fit features"),
        ("linear", {"--fit": "sgd", "--device": "cpu"}, "--device"),
        ("linear", {"--results": tmp_path / "notes.csv", "--frames": 4, "--size": 16}, "is no table of results"),
        ("svm", {"--protocol": "fima"}, "the paper of fima has no svm evaluation; mcl have"),
        ("lowshot", {"--shares": 0}, "--shares: must be in (0, 100]"),
        ("finetune", {"--dropout": 1}, "--dropout: must be in [0, 1)"),
        ("finetune", {"--backbone": "i3d"}, "i3d alone has no weights"),
        ("finetune", {"--epochs": 0}, "--epochs: must be at least 1"),
    ):
        argv = [str(part) for pair in {**base, **change}.items() for part in pair]
        assert evaluate(command, *argv) == 2, (command, change)
        err = capsys.readouterr().err
        line = err.strip().replace("\r", "\n").splitlines()[-1]
        assert line.startswith("error: "), (command, change, err)
        assert words in line, (command, change, err)


@pytest.mark.parametrize("paper", sorted(PROTOCOLS))
@pytest.mark.parametrize("command", ["linear", "svm", "finetune", "lowshot", "retrieval"])
def test_protocols_are_made_of_flags(paper, command, commands):
    if getattr(PROTOCOLS[paper], command) is None:
        return
    settings = protocol_settings(paper, command)
    fields = set(commands[command][1].__dataclass_fields__)
    assert set(settings) <= fields, set(settings) - fields


def test_flags_come_before_the_protocol_before_the_backbone(tiny_shapes, tmp_path):
    argv = ["--backbone", "random", "--data", tiny_shapes, "--output", tmp_path, "--protocol", "context-motion"]
    settings = measurement_inputs(parse(Finetune, None, [*map(str, argv), "--size", "64"]), "finetune").settings
    assert (settings["size"], settings["stride"], settings["dropout"], settings["frames"]) == (64, 4, 0.3, 16)
    settings = measurement_inputs(parse(Finetune, None, list(map(str, argv[:6]))), "finetune").settings
    assert (settings["size"], settings["stride"]) == (32, 2)


def test_leaks_and_classes_are_warned_of(evaluate, tiny_shapes, tmp_path, capsys):
    sources = [line.rsplit(" ", 1)[0] for line in (tiny_shapes / "train.txt").read_text().splitlines()]
    data = tmp_path / "data"
    data.mkdir()
    names = [f"v_{label}_g{group:02d}_c{clip:02d}.mp4" for label in "ab" for group in range(3) for clip in range(2)]
    for name, source in zip([*names, "other.mp4"], sources, strict=False):
        (data / name).symlink_to(tiny_shapes / source)
    # Three videos of a and one of b to learn from; the other clips of the same recordings to test, and a new class.
    train = [f"{name} {name[2]}" for name in names if name.endswith("c00.mp4")]
    test = [f"{name} {name[2]}" for name in names if name.endswith("c01.mp4")]
    (data / "train.txt").write_text("\n".join(train[:4]))
    (data / "test.txt").write_text("\n".join([*test, "other.mp4 unknown"]))
    base = ["--backbone", "random", "--data", data, *FLAGS]
    for argv in (["linear", *base], ["finetune", *base, "--max-steps", 1]):
        assert evaluate(*argv, "--output", tmp_path / argv[0]) == 0
        err = capsys.readouterr().err
        assert "4 groups (clips of one recording) are in both lists, the first is v_a_g00" in err
        assert "1 classes of the test list are not in the training list (unknown)" in err
        assert "1 of 2 classes have one training video each (b)" in err
        warnings = metrics_of(tmp_path / argv[0])["warnings"]
        assert all(err.count(f"warning: {line}") == 1 for line in warnings)
        assert len(warnings) == 4  # and that of top5


@pytest.mark.parametrize("command", ["retrieval", "linear", "svm"])
def test_the_order_of_the_lists_changes_nothing(evaluate, tiny_shapes, tmp_path, command):
    found = []
    for turn in (1, -1):
        lists = []
        for name in ("train", "test"):
            lines = (tiny_shapes / f"{name}.txt").read_text().splitlines()[::turn]
            lists += [f"--{name}", tmp_path / f"{name}{turn}.txt"]
            lists[-1].write_text("\n".join(lines))
        argv = ["--backbone", "random", "--data", tiny_shapes, "--output", tmp_path / f"{turn}", *lists, *FLAGS]
        assert evaluate(command, *argv, "--no-cache") == 0
        found.append(metrics_of(tmp_path / f"{turn}"))
    scores = [{name: run[name] for name in run["interval"]} for run in found]
    assert scores[0] == pytest.approx(scores[1])


def test_features_of_a_folder_go_into_one_file(evaluate, tiny_shapes, tmp_path, capsys):
    file = tmp_path / "new" / "feats.npz"
    argv = ["features", "--backbone", "random", "--data", tiny_shapes, "--output", file, "--clips", "1", *FLAGS[2:]]
    assert evaluate(*argv, "--list", "test.txt") == 0
    assert "feats.npz (features [16, 128], 0 skipped)" in capsys.readouterr().out
    videos = read_list(tiny_shapes / "test.txt", root=tiny_shapes)
    backbone, clip = named_backbone("random")
    settings = {**clip, "clips": 1, "frames": 4, "size": 16, "crop": 0.875}
    expected = extract_features(backbone, videos, **settings)
    with np.load(file) as held:
        assert np.array_equal(held["features"], expected.numpy())
        assert held["paths"].tolist() == [video.path for video in videos]
        assert held["labels"].tolist() == [video.label for video in videos]
        assert json.loads(str(held["settings"]))["frames"] == 4
    assert [path.name for path in file.parent.iterdir()] == ["feats.npz"]
    assert evaluate(*argv[:5], "--output", tmp_path / "a.npy") == 2
    assert "--output: must end in .npz" in capsys.readouterr().err
