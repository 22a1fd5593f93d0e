"""Every row of the papers' tables and figures is typed as docs/reproduce.md has it, and tried for two steps.

The videos are small (tests/runs/paper_data.py), and so are pictures, batches and queues, by flags behind the row's; the
networks that are measured are small ones, trained for two steps by the method's own flags. What config.yaml and
metrics.json then say is compared with the paper's setting (tests/paper_settings.py), but for what was made small.
"""

import json
import math
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
from motionops.commands import train
from motionops.commands.evaluate import program
from tests.conftest import hide_gpus
from tests.paper_settings import PAPERS, ROWS, of_measurement, of_training
from tests.runs.paper_data import make_folder

SMALL = {"batch_size": "4", "max_steps": "2", "workers": "0"}
QUICK = SMALL | {"log_every": "1", "logger": "csv", "size": "32"}
TRAINING = {
    "fima": QUICK | {"group": "2", "queue": "64", "size": "48"},
    "mcl": QUICK | {"group": "2", "queue": "64", "size": "48"},
    "modist": QUICK | {"group": "2", "queue": "64"},
    "controllable": QUICK,
    "context_motion": QUICK | {"group": "2"},
}
OF_FEATURES = {"size": "32", "workers": "0"}
MEASURING = {
    "retrieval": OF_FEATURES,
    "svm": OF_FEATURES,
    "linear": OF_FEATURES,
    "pictures": OF_FEATURES | {"shown": "1"},
    "finetune": SMALL | {"size": "32"},
    "lowshot": SMALL | {"size": "32"},
}
# Behind those: parts of a batch of 4, and the side of a test clip.
FURTHER = {
    ("finetune", "mcl"): {"accumulate": "2", "test_size": "32"},
    ("finetune", "modist-ssv2"): {"test_size": "32"},
    ("linear", "fima"): SMALL,
}
# The runs that rows measure: a small network in the paper's place, and what does not fit it.
RUNS = {
    "fima": "fima --preset ucf101 --data UCF-101 --list trainlist01.txt --losses vv pix --backbone r3d_small",
    "mcl": "mcl --preset ucf101 --data UCF-101 --list trainlist01.txt --seco intra order --backbone r3d_small"
    " --alignment-variant v1",
    "modist": "modist --preset kinetics400 --data kinetics400 --list train.csv --backbone r3d_small --flow tvl1",
    "controllable": "controllable --preset ucf101 --data UCF-101 --list trainlist01.txt --losses nce"
    " --backbone r3d_small",
    "context-motion": "context_motion --preset ucf101 --data UCF-101-mpeg4 --list trainlist01.txt --backbone r3d_small",
}
# In the list that is run always: a training, and measurements of a run, of others' weights and of an untrained network.
ALWAYS = {("fima", "10", "784"), ("fima", "6", "i3d-hmdb51"), ("mcl", "3", "imagenet-r2d"), ("modist", "4", "random")}


def words(flags):
    return [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", *value.split())]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where the commands are typed, with the small runs that they measure."""
    folder = tmp_path_factory.mktemp("papers")
    with pytest.MonkeyPatch.context() as patch:
        hide_gpus(patch)
        patch.chdir(folder)
        patch.setenv("MOTIONOPS_CACHE", str(folder / "cache"))
        make_folder(folder)
    return folder


@pytest.fixture(scope="session")
def trained(folder):
    """Makes the run that a row's --backbone lies in, and that beside which its pictures are drawn."""

    def of(file):
        run = folder / file.parent
        if (run / file.name).exists():
            return
        (name,) = [name for name in RUNS if run.name == name or run.name.startswith(f"{name}-")]
        if run.name != name:
            of(folder / "runs" / name / file.name)
            shutil.copytree(folder / "runs" / name, run)
            return
        method, *flags = RUNS[name].split()
        given = words(TRAINING[method] | {"output": f"runs/{name}"})
        assert train.main([method, *flags, *given]) == 0

    return of


@pytest.fixture(scope="module")
def tried():
    """The commands so far: rows of several tables are one, and it is tried once."""
    return set()


def same_for_all(script, arguments):
    """A command without the name of its folder, whatever the order of its flags."""
    flags = re.sub(r"--output \S+", "", " ".join(arguments)).replace(" --", "\n--").splitlines()
    return (script, *sorted(flag.strip() for flag in flags))


@pytest.fixture
def typed_there(folder, monkeypatch):
    hide_gpus(monkeypatch)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MOTIONOPS_CACHE", str(folder / "cache"))


def differing(found, expected, made_small):
    """What a file says otherwise than the paper, of what it says at all."""

    def plain(value):
        return [plain(each) for each in value] if isinstance(value, (tuple, list)) else value

    common = (expected.keys() & found.keys()) - made_small
    return {name: (found[name], expected[name]) for name in common if plain(found[name]) != plain(expected[name])}


@pytest.mark.parametrize(
    ("method", "key", "row"),
    [pytest.param(*each, marks=() if each in ALWAYS else pytest.mark.slow) for each in ROWS],
)
def test_a_row_is_tried(typed_there, trained, tried, tmp_path, method, key, row):
    try:
        tries_it(trained, tried, tmp_path, method, key, row)
    finally:
        shutil.rmtree(tmp_path)  # networks in full, with their optimizers' states: 200 rows leave 80 GB


def tries_it(trained, tried, tmp_path, method, key, row):
    paper = PAPERS[method]
    _, script, *arguments = paper.command(key, row)
    if same_for_all(script, arguments) in tried:
        return
    tried.add(same_for_all(script, arguments))
    if script != "trainers/evaluate.py":
        given = TRAINING[method] | {"output": str(tmp_path / "run")}
        assert train.main([method, "--row", f"{key}/{row}", *words(given)]) == 0
        config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
        expected = of_training(method, key, row, config["preset"])
        assert expected.keys() <= config.keys()
        assert not differing(config, expected, given.keys())
        assert (tmp_path / "run" / "backbone.safetensors").exists()
        metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
        assert metrics["training"]["steps"] == 2
        assert math.isfinite(metrics["training"]["loss"])
        return
    command, *flags = arguments
    of_row = dict(pairwise(flags))
    backbone, protocol = of_row["--backbone"], of_row["--protocol"]
    if ":" not in backbone:
        trained(Path(backbone))
    given = MEASURING[command] | FURTHER.get((command, protocol), {}) | {"output": str(tmp_path / "out")}
    given["results"] = str(tmp_path / "results.csv")
    if "motion_backbone" in backbone:
        del given["workers"]  # vectors are read by the process itself
    if command == "pictures":
        given["beside"] = "random:r3d_small"
    assert program.main([command, *flags, *words(given)]) == 0
    if command == "pictures":
        named = re.findall(r"[\w/]+\.png", " ".join(paper.tables[key].rows[row].paper))
        assert named
        for name in named:
            assert (tmp_path / "out" / name).exists() or (Path(backbone).parent / name).exists(), name
        return
    settings = json.loads((tmp_path / "out" / "metrics.json").read_text())["settings"]
    expected = of_measurement(method, key, row, command, protocol, backbone)
    assert not differing(settings, expected, given.keys() | {"size"})
    said = (
        {"clips", "crop", "frames"} if "vectors" in settings else {"clips", "frames", "stride", "mean", "std", "short"}
    )
    assert said <= settings.keys()
