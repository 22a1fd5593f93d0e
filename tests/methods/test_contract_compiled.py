"""--compile changes the losses of no method, and makes one graph of them; --profile tells where a step goes."""

import copy
import gzip
import json
import time

import pytest
import torch

from motionops import library
from motionops.training import compiling, fitting
from motionops.training.lightning import Callback
from motionops.training.watch.profiling import PARTS, WARM_UP
from tests.methods.small_network import SmallNetwork
from tests.methods.steps import ready, steps
from tests.methods.tiny import CARDS, NAMES, tiny, trained
from tests.runs.graphs import operators

OF_NETWORKS = {"ghost_batch_norm"}
GRAPHS = [(name, *each) for name in NAMES for each in CARDS[name].graphs]
PROFILES = [(name, CARDS[name].flow) for name in NAMES]


def named(value):
    return value if isinstance(value, str) else "-".join(sorted(value)) or "tiny"


def two_steps(module, batches):
    """The losses of two steps and the gradients of the last one."""
    losses = [{name: value.item() for name, value in outputs.items()} for outputs in steps(module, batches)]
    return losses, {name: x.grad for name, x in module.named_parameters() if x.grad is not None}


@pytest.mark.parametrize(("method", "flags", "inside"), GRAPHS, ids=named)
def test_what_is_compiled_gives_the_same_losses_and_gradients(shapes, tmp_path, graphs, method, flags, inside):
    flags = {**flags, "compile": True}
    # A backbone in full is in MoCo's graph: what the others have of their own is behind it.
    network = None if method == "moco" else SmallNetwork(tiny(method, shapes, tmp_path, **flags).frames)
    module, _, batches = ready(method, shapes, tmp_path, network=network, **flags)
    other = copy.deepcopy(module)
    expected, gradients = two_steps(module, batches)
    assert not graphs
    module = other
    with compiling.compiled(module):
        found, others = two_steps(module, batches)
    assert len(graphs) == 1
    assert set().union(*map(operators, graphs)) == inside | OF_NETWORKS
    for one, two in zip(expected, found, strict=True):
        assert two == pytest.approx(one, rel=1e-3, abs=1e-3)
    assert gradients.keys() == others.keys()
    largest = max(x.norm() for x in gradients.values())
    for name, x in gradients.items():
        assert (others[name] - x).norm() <= 1e-2 * x.norm() + 1e-5 * largest, name


@pytest.mark.parametrize(("method", "flow"), PROFILES, ids=named)
def test_a_profile_adds_up_and_is_written(shapes, tmp_path, capsys, monkeypatch, method, flow):
    ends = []

    class Clock(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if module.between_steps:
                ends.append(time.perf_counter())

    make_trainer = fitting.make_trainer

    def with_clock(config, devices, nodes, loggers, callbacks):
        # Before the last callback, which ends a step and, after the last timed one, writes the profile.
        return make_trainer(config, devices, nodes, loggers, [*callbacks[:-1], Clock(), callbacks[-1]])

    monkeypatch.setattr(fitting, "make_trainer", with_clock)
    # Steps 4 and 5 of 8 are timed, the next two traced; an epoch has 4.
    trained(method, tiny(method, shapes, tmp_path, **flow, profile=2, accumulate=2))
    report = tmp_path / "report"
    profile = json.loads((report / "profile.json").read_text())
    assert profile["steps"] == 2
    assert profile["run"]["batch_size"] == 4
    milliseconds = profile["milliseconds"]
    assert milliseconds.keys() == PARTS.keys()
    assert all(value >= 0 for value in milliseconds.values())
    wall = 1e3 * (ends[WARM_UP + 1] - ends[WARM_UP - 1]) / 2
    # The two clocks are read a hook apart; a process that is put aside just there loses some milliseconds.
    assert sum(milliseconds.values()) == pytest.approx(wall, rel=0.2)
    for part in ("wait", "copy", "augment", "networks", "backward", "optimizer", "losses"):
        assert milliseconds[part] > 0 or (method, part) == ("controllable", "losses"), part
    assert (milliseconds["flow"] > 0) == bool(flow)
    # Without readers, what is decoded is waited for; step 4 is of the first epoch.
    assert 0 < profile["decoding"]["milliseconds"] < milliseconds["wait"]
    assert profile["counts"]["processes"] == 1
    assert profile["counts"]["videos"] == 4
    shown = capsys.readouterr().err
    assert "a step, mean of 2:" in shown
    assert "decoding in the training process: part of its waiting" in shown
    with gzip.open(report / "trace.json.gz") as file:
        events = {event.get("name", "") for event in json.load(file)["traceEvents"]}
    assert "motionops::augment_clips" in events
    assert library.ops() is torch.ops.motionops  # as it was
