"""A run of every method: what it writes, how it is continued, who starts it, and that nothing else changes it."""

import csv
import json
from importlib import import_module
from inspect import signature

import pytest
import torch

from motionops.commands import program
from motionops.commands import train as command
from motionops.models import load_backbone
from motionops.training import run
from motionops.training.run_folder import METRICS_CSV
from tests.methods.tiny import CARDS, NAMES, package_of, tiny, trained
from tests.runs.runs import command as typed

STEPS, STEPS_PER_EPOCH = 8, 4
CUT = 5  # in the middle of an epoch
FILES = {"last.ckpt", "previous.ckpt", "backbone.safetensors", "config.yaml", "videos.jsonl"}
FILES |= {"metrics.csv", "metrics.json", "tensorboard", "report"}
MORE_FILES = {"context_motion": {"image_backbone.safetensors", "motion_backbone.safetensors"}}


def rows(folder):
    """The lines of metrics.csv, but for what a clock says."""
    with open(folder / METRICS_CSV, newline="") as file:
        lines = list(csv.DictReader(file))
    clocks = ("clips_per_second", "waiting")
    return [{name: value for name, value in line.items() if name not in clocks} for line in lines]


def checkpoint(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)


def from_a_checkout(name, config):
    assert import_module(f"trainers.{name}").main(config) == 0


@pytest.fixture
def whole(once, shapes):
    """`whole(method)`: the folder of its tiny run, from beginning to end."""
    return lambda method: once(from_a_checkout, method, test_list=shapes / "test.txt")


def test_every_method_has_a_card():
    assert CARDS.keys() == set(NAMES), "a method under motionops/methods needs a line in tests/methods/tiny.py"


@pytest.mark.parametrize("method", NAMES)
def test_it_writes_everything(whole, method):
    folder = whole(method)
    assert {path.name for path in folder.iterdir()} == FILES | MORE_FILES.get(method, set())
    pictures = {f"{name}.png" for name in ("training", "retrieval", *CARDS[method].pictures)}
    assert {path.name for path in (folder / "report").iterdir()} >= pictures
    lines = rows(folder)
    assert [int(line["step"]) for line in lines] == list(range(1, STEPS + 1))
    assert [int(line["epoch"]) for line in lines] == [step // STEPS_PER_EPOCH for step in range(STEPS)]
    assert {f"loss_{name}" for name in CARDS[method].falls} <= lines[0].keys()
    assert all(torch.tensor([float(value) for value in line.values()]).isfinite().all() for line in lines)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["protocol"], metrics["n_train"], metrics["n_test"]) == ("retrieval", 16, 8)
    assert (metrics["skipped"], metrics["training"]["steps"]) == (0, STEPS)
    assert metrics["chance"] == pytest.approx(12.5)
    assert 0 <= metrics["R@1"] <= metrics["R@5"] <= 100
    kept = load_backbone(folder / "backbone.safetensors")
    assert kept.name == "r3d_small"
    assert kept.eval()(torch.rand(1, 3, 8, 32, 32)).shape == (1, 128, 2, 4, 4)
    state = checkpoint(folder)
    learnt = {
        name.removeprefix(f"{state['motionops']['backbone']}."): value for name, value in state["state_dict"].items()
    }
    assert all(torch.equal(value, learnt[name]) for name, value in kept.state_dict().items())


# MCL's motion comes from a file or from the step: where the readers' part differs, each is continued once.
@pytest.mark.parametrize(
    ("method", "flags", "workers"),
    [*((method, {}, 2) for method in NAMES), ("mcl", CARDS["mcl"].flow | {"alignment_variant": "v3"}, 0)],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
def test_a_resumed_run_equals_an_uninterrupted_one(whole, once, shapes, tmp_path, method, flags, workers):
    """All that is logged, and all weights, queues and momenta: whoever reads the videos, however many there are."""
    expected = once(trained, method, **flags) if flags else whole(method)
    trained(method, tiny(method, shapes, tmp_path, **flags, workers=workers, max_steps=CUT))
    assert len(rows(tmp_path)) == CUT
    trained(method, tiny(method, shapes, tmp_path, **flags, resume=True))
    assert rows(tmp_path) == rows(expected)
    first, second = checkpoint(expected), checkpoint(tmp_path)
    assert first["state_dict"].keys() == second["state_dict"].keys()
    for name, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][name]), name
    one, two = (state["optimizer_states"][0]["state"] for state in (first, second))
    assert one.keys() == two.keys() != set()
    assert all(torch.equal(one[key]["momentum_buffer"], two[key]["momentum_buffer"]) for key in one)


@pytest.mark.parametrize("method", NAMES)
def test_the_command_and_the_trainer_start_the_same(shapes, tmp_path, monkeypatch, method):
    trainer, asked = import_module(f"trainers.{method}"), []
    assert trainer.train is command.train is run.train
    order = signature(run.train)

    def note(*given, **named):
        call = order.bind(*given, **named)
        call.apply_defaults()  # what a trainer leaves out
        asked.append(call.arguments)
        return 0

    for module in (trainer, command):
        monkeypatch.setattr(module, "train", note)
    config = tiny(method, shapes, tmp_path)
    assert trainer.main(config) == command.main_of(package_of(method))(config) == 0
    assert asked[0] == asked[1]


def test_a_run_that_is_typed_is_the_same(whole, shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # unset, the program starts itself anew
    _, _, *line = typed(tiny("moco", shapes, tmp_path, max_steps=2), "moco")
    assert program.main(["train", "moco", *line]) == 0
    assert rows(tmp_path) == rows(whole("moco"))[:2]
