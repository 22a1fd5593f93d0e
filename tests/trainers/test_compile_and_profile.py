"""--compile changes the losses of no method; --profile tells where a step goes."""

import copy
import csv
import gzip
import json
import time
from dataclasses import replace
from importlib import import_module

import controllable
import fima
import modist
import pytest
import torch
from torch import nn

from motionops import library
from motionops.learning import compiling, training
from motionops.learning.lightning import Callback
from motionops.learning.profiling import PARTS, WARM_UP
from tests.trainers.runs import ROOT, command, finished

TINY = {"batch_size": 4, "size": 16, "frames": 4, "epochs": 1, "max_steps": 2, "hidden": 16, "dim": 16, "workers": 0}
# Plain descent: what a gradient is wrong by, the next step's losses are wrong by.
TINY |= {"log_every": 1, "evaluation_clips": 1, "warmup_epochs": 0.0, "optimizer": "sgd", "learning_rate": 0.1}
MOMENTUM = {"queue": 16}
OF_NETWORKS = {"ghost_batch_norm"}
DECODER = {"decoder_width": 16, "decoder_feedforward": 16, "decoder_dropout": 0.0}
# module, configuration, flags, graphs that are compiled, operators in them beside those of networks
METHODS = {
    "fima": ("fima", "FIMAConfig", MOMENTUM | DECODER | {"frames": 8}, 1, {"queue_infonce", "pixel_contrast"}),
    "fima-released": (
        "fima",
        "FIMAConfig",
        MOMENTUM | DECODER | {"losses": ("vv", "vd", "pix"), "enqueue": "between", "pixel_queue": 64},
        1,
        {"queue_infonce", "pixel_contrast"},
    ),
    "fima-groups": ("fima", "FIMAConfig", MOMENTUM | {"losses": ("vv",), "group": 2}, 1, {"queue_infonce"}),
    "mcl": ("mcl", "MCLConfig", MOMENTUM | {"size": 32}, 1, set()),  # the momentum encoder alone
    "mcl-plain": ("mcl", "MCLConfig", MOMENTUM | {"weight_alignment": 0.0}, 1, {"queue_infonce"}),
    "mcl-seco": (
        "mcl",
        "MCLConfig",
        MOMENTUM | {"weight_alignment": 0.0, "seco": ("intra", "order")},
        1,
        {"queue_infonce"},
    ),
    "modist": (
        "modist",
        "MoDistConfig",
        MOMENTUM | {"motion": "frame-difference", "motion_frames": 4, "gamma": 0.0},
        1,
        {"queue_infonce"},
    ),
    "controllable": (
        "controllable",
        "ControllableConfig",
        {"stride": 1, "clips": 2, "global_cells": 4, "drawn_levels": 2, "losses": ("rc", "mi", "td", "nce")},
        1,
        {"region_contrast", "pairwise_infonce"},
    ),
    "context_motion": (
        "context_motion",
        "ContextMotionConfig",
        {"motion_frames": 4, "width": 16, "feedforward": 16, "encoder_layers": 1, "decoder_layers": 1},
        1,
        {"pairwise_infonce"},
    ),
}


@pytest.fixture(params=METHODS)
def method(request, shapes):
    """(trainer, a function that makes configurations, number of graphs, operators in them)."""
    script, config, flags, *expected = METHODS[request.param]
    trainer = import_module(script)
    own = {"data": shapes, "list": shapes / "train.txt", **TINY, **flags}
    return (
        trainer,
        lambda output, **more: replace(getattr(trainer, config)(), output=output, **{**own, **more}),
        *expected,
    )


def operators(graph):
    """The names of our operators that a graph calls."""
    targets = [str(node.target).removesuffix(".default") for node in graph.graph.nodes]
    return {target.removeprefix("motionops.") for target in targets if target.startswith("motionops.")}


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture
def graphs(monkeypatch):
    """Compiles with what inductor is given, forward and backward, and without its compiler; collects the graphs."""
    seen = []

    def backend(graph, inputs):
        seen.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    monkeypatch.setattr(compiling, "BACKEND", backend)
    torch._dynamo.reset()
    yield seen
    torch._dynamo.reset()


def test_what_is_compiled_gives_the_same_losses(method, tmp_path, graphs):
    trainer, make, count, inside = method
    assert trainer.main(make(tmp_path / "eager")) == 0
    assert not graphs
    assert trainer.main(make(tmp_path / "compiled", compile=True)) == 0
    assert len(graphs) == count
    assert set().union(*map(operators, graphs)) == inside | OF_NETWORKS
    one, two = rows(tmp_path / "eager"), rows(tmp_path / "compiled")
    assert len(one) == len(two) == 2
    for first, second in zip(one, two, strict=True):
        for name in first.keys() - {"clips_per_second"}:
            assert second[name] == pytest.approx(first[name], rel=1e-3, abs=1e-3), name


def test_parts_of_a_step_are_the_same_graph(tiny, graphs):
    assert fima.main(tiny(compile=True, accumulate=2, max_steps=2)) == 0
    assert len(graphs) == 1


def test_a_profile_times_networks_and_operators_apart(tiny, graphs):
    assert fima.main(tiny(compile=True, profile=1, max_steps=2)) == 0
    assert len(graphs) == 2  # the backbone, with gradients and without
    assert [operators(graph) for graph in graphs] == [OF_NETWORKS] * 2


def steps_of(module, prepare, given):
    """Losses and gradients of a parameter of the steps that `prepare(module, x)` makes ready, for each given x."""
    results = []
    module.total_steps = module.steps_per_epoch = 1000
    for x in given:
        prepare(module, x)
        module.zero_grad()
        outputs = module.training_step({"index": torch.arange(4), "extents": EXTENTS}, 0)
        outputs["loss"].backward()
        module.finish_pending()
        results.append(([value.item() for value in outputs.values()], module.head.first.weight.grad.clone()))
    return results


EXTENTS = torch.tensor([[0.0, 8.0], [0.0, 1.0], [0.0, 1.0]]).expand(4, 3, 3, 2)


def compare(module, prepare, given):
    expected = steps_of(copy.deepcopy(module), prepare, given)
    with compiling.compiled(module):
        seen = steps_of(module, prepare, given)
    for (values, gradient), (other_values, other_gradient) in zip(expected, seen, strict=True):
        assert other_values == pytest.approx(values, rel=1e-4, abs=1e-5)
        torch.testing.assert_close(other_gradient, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("counts", "compiled"), [([4, 2, 3, 2], 1), ([3, 1, 2, 0, 4], 3)])
def test_however_many_videos_move(counts, compiled, graphs):
    """MoDist: one graph for two and more, and one each for none and for one."""
    torch.manual_seed(0)
    own = {"batch_size": 4, "dim": 8, "queue": 12, "size": 16, "hidden": 16, "frames": 2, "motion_frames": 2}
    module = modist.MoDist(replace(modist.MoDistConfig(), **own, motion="frame-difference", compile=True))
    clips = [torch.randn(4, 3, 2, 16, 16) for _ in range(4)]

    def prepare(module, moving):
        module.clips = lambda batch: modist.Clips(clips[:2], clips[2:], torch.arange(4) < moving)

    compare(module, prepare, counts)
    assert len(graphs) == compiled


def test_however_many_clips_share_a_level(graphs):
    """Controllable Augmentations: one graph for some, and one for none."""
    torch.manual_seed(0)
    own = {"batch_size": 4, "dim": 8, "hidden": 16, "size": 16, "frames": 4, "clips": 2, "global_cells": 4}
    module = controllable.Controllable(replace(controllable.ControllableConfig(), **own, stride=1, compile=True))
    view, local = torch.randn(4, 3, 4, 16, 16), torch.randn(8, 3, 4, 16, 16)
    different = torch.arange(8).view(4, 2)

    def prepare(module, shared):
        module.cut = lambda batch: controllable.Clips(view, local, torch.where(different < shared, 0, different))

    compare(module, prepare, [4, 8, 0, 5, 6])
    assert len(graphs) == 2


def test_two_processes_compile_whole_backbones(tiny, tmp_path):
    """Collectives stay outside of the graphs, and the buckets in which gradients are averaged do not cut them."""
    config = tiny(output=tmp_path / "run", losses=("vv",), max_steps=2)
    names = (
        "data",
        "list",
        "output",
        "max_steps",
        "batch_size",
        "size",
        "queue",
        "hidden",
        "dim",
        "workers",
        "log_every",
    )
    script = str(ROOT / "tests" / "trainers" / "run_noting_graphs.py")
    python, *line = command(config, names, "fima", "--losses", "vv", "--devices", "2", "--compile")
    finished([python, script, *line])
    layers = list(fima.FIMA(config).backbone.modules())
    whole, norms = (sum(isinstance(layer, kind) for layer in layers) for kind in (nn.Conv3d, nn.BatchNorm3d))
    for rank in range(2):
        noted = json.loads((config.output / f"graphs-{rank}.json").read_text())
        operators = ["motionops.ghost_batch_norm.default"] * norms
        assert noted == [{"convolutions": whole, "operators": operators}] * 2  # with gradients and without


def test_a_profile_adds_up_and_is_written(method, tmp_path, capsys, monkeypatch):
    trainer, make, *_ = method
    ends = []

    class Clock(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if module.between_steps:
                ends.append(time.perf_counter())

    make_trainer = training.make_trainer

    def with_clock(config, devices, nodes, loggers, callbacks):
        # Before the last callback, which ends a step and, after the last timed one, writes the profile.
        return make_trainer(config, devices, nodes, loggers, [*callbacks[:-1], Clock(), callbacks[-1]])

    monkeypatch.setattr(training, "make_trainer", with_clock)
    in_the_step = {"mcl": {"motion_source": "on-the-fly"}, "modist": {"motion": "flow-edges", "flow": "tvl1"}}
    flow = in_the_step.get(trainer.__name__, {})
    # Steps 4 and 5 are timed; an epoch has 4.
    assert trainer.main(make(tmp_path, profile=2, max_steps=8, epochs=2, accumulate=2, **flow)) == 0
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
        assert milliseconds[part] > 0 or (trainer.__name__, part) == ("controllable", "losses"), part
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


def test_a_run_that_is_too_short_for_a_profile_says_so(tiny, capsys):
    assert fima.main(tiny(profile=5, max_steps=2)) == 0
    assert "--profile: the run is over after 2 steps, of which 3 are not counted" in capsys.readouterr().err
