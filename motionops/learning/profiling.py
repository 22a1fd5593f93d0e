"""Where a step goes: --profile N times the parts of N steps, and writes a trace of two more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from motionops.info import machine_info
from motionops.learning.compiling import backbones
from motionops.learning.lightning import Callback
from motionops.library import NAMESPACE, use_namespace

# Allocations, compilation and the readers' first batches are not what a step costs.
WARM_UP = 3
TRACED = 2

WAIT, AUGMENT, FLOW, NETWORKS, LOSSES, OTHER = "wait", "augment", "flow", "networks", "losses", "other"
BACKWARD, OPTIMIZER, AFTER = "backward", "optimizer", "after"
PARTS = {
    WAIT: "waiting for the readers, and the copy to the device",
    AUGMENT: "augmentation",
    FLOW: "flow and other motion",
    NETWORKS: "backbones, forward",
    LOSSES: "losses (operators), forward",
    OTHER: "rest of the forward pass",
    BACKWARD: "backward",
    OPTIMIZER: "optimiser",
    AFTER: "queues, log, checkpoint",
}
AUGMENT_OPS = ("augment_clips",)
FLOW_OPS = ("tvl1_flow", "flow_edges", "motion_map", "frame_difference", "rasterize_motion_vectors")

TIMED_NAMESPACE = f"{NAMESPACE}_timed"
SUMMARY, TRACE = "profile.json", "trace.json.gz"


class StepProfile(Callback):
    """Times the parts of a run's steps, and prints and writes them when it has seen enough.

    Clocks are read where a part begins and ends, and a GPU is waited for first: the parts add up, to a step without the
    overlap that it otherwise has of processor and GPU. The trace, of `TRACED` more steps, is of steps as they are.

    The first callback of a trainer; its `last` is the last one.

    Args:
        steps: steps to time, after `WARM_UP` others.
        folder: gets profile.json, the table, and trace.json.gz, for Perfetto or chrome://tracing.
        about: what the run is; goes into profile.json.
        say: prints a text.
    """

    def __init__(self, steps: int, folder: Path, about: dict[str, Any], say: Callable[[str], None]) -> None:
        self.steps, self.folder, self.about, self.say = steps, folder, about, say
        self.last = _EndOfStep(self)
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._done = 0
        self._mark = 0.0
        self._forward = self._timing = False
        self._inside = 0.0
        self._patches = ExitStack()
        self._trace: profile | None = None

    def on_train_start(self, trainer, module) -> None:
        self._timing = True
        for network in backbones(module).values():
            self._time_calls_of(network)
        own, timed = getattr(torch.ops, NAMESPACE), SimpleNamespace()
        for op in (schema.name.split("::")[1] for schema in _schemas()):
            part = AUGMENT if op in AUGMENT_OPS else FLOW if op in FLOW_OPS else LOSSES
            setattr(timed, op, self._timed(part, getattr(own, op)))
        setattr(torch.ops, TIMED_NAMESPACE, timed)
        self._patches.callback(delattr, torch.ops, TIMED_NAMESPACE)
        self._patches.enter_context(use_namespace(TIMED_NAMESPACE))
        self._mark = self._now()

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self._end(WAIT)
        self._forward, self._inside = self._timing, 0.0

    def on_before_backward(self, trainer, module, loss) -> None:
        self._forward = False
        self._mark += self._inside  # what the networks and the operators took is theirs
        self._end(OTHER)

    def on_after_backward(self, trainer, module) -> None:
        self._end(BACKWARD)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self._end(OPTIMIZER)

    def end_of_part(self, module) -> None:
        """What the callbacks do after a step is over too."""
        self._end(AFTER)
        if not module.between_steps:
            return
        self._done += 1
        if self._done == WARM_UP:
            self.seconds = dict.fromkeys(PARTS, 0.0)
        if self._done == WARM_UP + self.steps:
            self._stop_timing()
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
            self._trace = profile(activities=activities)
            self._trace.start()
        if self._done == WARM_UP + self.steps + TRACED:
            self._stop_tracing()

    def on_train_end(self, trainer, module) -> None:
        self.close()

    def on_exception(self, trainer, module, exception) -> None:
        self.close()

    def close(self) -> None:
        """Tell what was seen so far: the run is over."""
        if self._timing:
            self._stop_timing()
        if self._trace is not None:
            self._stop_tracing()

    def _stop_timing(self) -> None:
        self._timing = self._forward = False
        self._patches.close()
        steps = self._done - WARM_UP
        if steps < 1:
            self.say(f"--profile: the run is over after {self._done} steps, of which {WARM_UP} are not counted")
            return
        milliseconds = {part: 1e3 * seconds / steps for part, seconds in self.seconds.items()}
        summary = {"steps": steps, "milliseconds": milliseconds, "run": self.about, "machine": machine_info()}
        self.folder.mkdir(exist_ok=True)
        (self.folder / SUMMARY).write_text(json.dumps(summary, indent=2, default=str) + "\n")
        self.say(table(steps, milliseconds))

    def _stop_tracing(self) -> None:
        trace, self._trace = self._trace, None
        trace.stop()
        trace.export_chrome_trace(str(self.folder / TRACE))
        self.say(f"--profile: {self.folder / TRACE} shows {self._done - WARM_UP - self.steps} steps (ui.perfetto.dev)")

    def _end(self, part: str) -> None:
        if self._timing:
            now = self._now()
            self.seconds[part] += now - self._mark
            self._mark = now

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def _timed(self, part: str, call: Callable) -> Callable:
        """A call whose time is `part`'s where it is made in a forward pass (readers and reports make some too)."""

        def timed(*args, **kwargs):
            if not self._forward:
                return call(*args, **kwargs)
            start = self._now()
            result = call(*args, **kwargs)
            seconds = self._now() - start
            self.seconds[part] += seconds
            self._inside += seconds
            return result

        return timed

    def _time_calls_of(self, network: nn.Module) -> None:
        """Around the compiled call, where there is one: a hook would be compiled too."""
        before = network._compiled_call_impl
        network._compiled_call_impl = self._timed(NETWORKS, before or network._call_impl)
        self._patches.callback(setattr, network, "_compiled_call_impl", before)


class _EndOfStep(Callback):
    def __init__(self, owner: StepProfile) -> None:
        self.owner = owner

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.owner.end_of_part(module)


def table(steps: int, milliseconds: dict[str, float]) -> str:
    """The parts of a step, as a text."""
    whole = sum(milliseconds.values())
    lines = [f"a step, mean of {steps}: {whole:.1f} ms"]
    for part, title in PARTS.items():
        lines.append(f"  {title:<52}{milliseconds[part]:10.2f} ms {milliseconds[part] / whole:6.1%}")
    return "\n".join(lines)


def _schemas() -> list:
    return [schema for schema in torch._C._jit_get_all_schemas() if schema.name.startswith(f"{NAMESPACE}::")]
