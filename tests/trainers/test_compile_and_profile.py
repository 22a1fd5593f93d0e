"""--compile changes the losses of no method; --profile tells where a step goes."""

import csv
import gzip
import json
import time
from dataclasses import replace
from importlib import import_module

import fima
import pytest
import torch

import motionops
from motionops import library
from motionops.learning import compiling, training
from motionops.learning.lightning import Callback
from motionops.learning.profiling import PARTS, WARM_UP
from motionops.models import ProjectionHead, build_backbone

TINY = {"batch_size": 4, "size": 16, "frames": 4, "epochs": 1, "max_steps": 2, "hidden": 16, "dim": 16, "workers": 0}
TINY |= {"log_every": 1, "evaluation_clips": 1}
MOMENTUM = {"queue": 16}
DECODER = {"decoder_width": 16, "decoder_feedforward": 16, "decoder_dropout": 0.0}
# module, configuration, flags, graphs that are compiled
METHODS = {
    "fima": ("fima", "FIMAConfig", MOMENTUM | DECODER | {"frames": 8}, 2),
    "mcl": ("mcl", "MCLConfig", MOMENTUM | {"size": 32}, 1),
    "mcl-plain": (
        "mcl",
        "MCLConfig",
        MOMENTUM | {"weight_alignment": 0.0},
        2,
    ),
    "modist": (
        "modist",
        "MoDistConfig",
        MOMENTUM | {"motion": "frame-difference", "motion_frames": 4, "gamma": 0.0},
        2,  # both pathways have the same network: one graph with gradients and one without
    ),
    "controllable": (
        "controllable",
        "ControllableConfig",
        {"stride": 1, "clips": 2, "global_cells": 4, "drawn_levels": 2},
        2,  # the network at both of its resolutions in time
    ),
    "context_motion": (
        "context_motion",
        "ContextMotionConfig",
        {"motion_frames": 4, "width": 16, "feedforward": 16, "encoder_layers": 1, "decoder_layers": 1},
        3,
    ),
}


@pytest.fixture(params=METHODS)
def method(request, shapes):
    """(trainer, a function that makes configurations, number of graphs)."""
    script, config, flags, graphs = METHODS[request.param]
    trainer = import_module(script)
    own = {"data": shapes, "list": shapes / "train.txt", **TINY, **flags}
    return trainer, lambda output, **more: replace(getattr(trainer, config)(), output=output, **{**own, **more}), graphs


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


def test_compiled_backbones_give_the_same_losses(method, tmp_path, graphs):
    trainer, make, compiled_count = method
    assert trainer.main(make(tmp_path / "eager")) == 0
    assert not graphs
    assert trainer.main(make(tmp_path / "compiled", compile=True)) == 0
    assert len(graphs) == compiled_count
    one, two = rows(tmp_path / "eager"), rows(tmp_path / "compiled")
    assert len(one) == len(two) == 2
    for first, second in zip(one, two, strict=True):
        for name in first.keys() - {"clips_per_second"}:
            assert second[name] == pytest.approx(first[name], rel=1e-3, abs=1e-3), name


def test_networks_and_operators_are_one_graph(graphs):
    """What a step computes from its clips to its losses' gradients, our operators inside."""
    backbone, head = build_backbone("r3d_small"), ProjectionHead(128, 16, 16)

    def step(view, other, where, queue):
        clips = [motionops.augment_clips(frames, where, 16, mean=0.4, std=0.2) for frames in (view, other)]
        maps = [backbone(clip) for clip in clips]
        pooled = [head(features.mean(dim=(2, 3, 4))) for features in maps]
        pixels = [head(features.permute(0, 2, 3, 4, 1)) for features in maps]
        clip_loss = motionops.queue_infonce(pooled[0], pooled[1].detach(), queue, temperature=0.1).loss
        pixel_loss = motionops.pixel_contrast(pixels[0], pixels[1].detach(), where, where, radius=0.7, temperature=0.1)
        return clip_loss + pixel_loss

    generator = torch.Generator().manual_seed(0)
    view, other = (torch.randint(256, (4, 4, 24, 24, 3), dtype=torch.uint8, generator=generator) for _ in range(2))
    where = motionops.sample_extents(4, frame_count=4, frames=4, stride=1, height=24, width=24, generator=generator)
    queue = torch.nn.functional.normalize(torch.randn(32, 16, generator=generator), dim=1)
    parameters = [*backbone.parameters(), *head.parameters()]
    expected = torch.autograd.grad(step(view, other, where, queue), parameters)
    compiled = torch.compile(step, fullgraph=True, backend=compiling.BACKEND)
    gradients = torch.autograd.grad(compiled(view, other, where, queue), parameters)
    assert len(graphs) == 1
    names = {str(node.target) for node in graphs[0].graph.nodes}
    assert {f"motionops.{op}.default" for op in ("augment_clips", "queue_infonce", "pixel_contrast")} <= {
        name.removesuffix(".default") + ".default" for name in names
    }
    for one, two in zip(expected, gradients, strict=True):
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-5)


def test_a_profile_adds_up_and_is_written(method, tmp_path, capsys, monkeypatch):
    trainer, make, _ = method
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
    assert sum(milliseconds.values()) == pytest.approx(wall, rel=0.01, abs=2.0)
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
