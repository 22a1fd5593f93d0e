"""Where a step goes: --profile N times the parts of N steps, and writes a trace of two more."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from motionops.contrast.feature_queue import FeatureQueue
from motionops.contrast.momentum_encoder import MomentumEncoder
from motionops.info import machine_info
from motionops.library import NAMESPACE, use_namespace
from motionops.models.shuffled_batch_norm import uses_batch_statistics
from motionops.motion.pair_motion import RAFTPairs
from motionops.ranks import world
from motionops.training.compiling import backbones
from motionops.training.lightning import Callback
from motionops.video import VideoDataset

# Allocations, compilation and the readers' first batches are not what a step costs.
WARM_UP = 3
TRACED = 2
# Files that are looked at for their mean size.
SIZED = 1000

WAIT, COPY, AUGMENT, FLOW, NETWORKS = "wait", "copy", "augment", "flow", "networks"
LOSSES, OTHER = "losses", "other"
BACKWARD, OPTIMIZER, AFTER = "backward", "optimizer", "after"
PARTS = {
    WAIT: "waiting for the readers",
    COPY: "copy to the device",
    AUGMENT: "augmentation",
    FLOW: "flow and other motion",
    NETWORKS: "backbones, forward",
    LOSSES: "losses (operators), forward",
    OTHER: "rest of the forward pass",
    BACKWARD: "backward",
    OPTIMIZER: "optimiser",
    AFTER: "queues, log, checkpoint",
}
COUNTED = ("videos", "key_clip_bytes", "key_map_bytes", "key_bytes")
AUGMENT_OPS = ("augment_clips",)
NETWORK_OPS = ("ghost_batch_norm", "ghost_batch_norm_backward")  # timed with the backbones that call them
FLOW_OPS = ("tvl1_flow", "flow_edges", "motion_map", "frame_difference", "rasterize_motion_vectors")

TIMED_NAMESPACE = f"{NAMESPACE}_timed"
SUMMARY, TRACE = "profile.json", "trace.json.gz"


class StepProfile(Callback):
    """Times the parts of a run's steps, and prints and writes them when it has seen enough.

    Clocks are read where a part begins and ends, and a GPU is waited for first: the parts add up, to a step without the
    overlap that it otherwise has of processor and GPU. The trace, of `TRACED` more steps, is of steps as they are.

    The first callback of a trainer; its `last` is the last one.

    What a step moves is counted beside it, for `benchmarks/scale.py`: `counts` in profile.json, of one process.

    * `processes`: of the run
    * `videos`, `clips`: that the process learns from
    * `file_bytes`: mean of the training videos' files
    * `gradient_bytes`: of the trained parameters
    * `key_clip_bytes`, `key_map_bytes`: what the momentum copies of the backbones take and give: shuffled BatchNorm
      sends the first to other ranks, and gets the second back
    * `key_bytes`: rows for the queues, which all ranks get

    Args:
        steps: steps to time, after `WARM_UP` others.
        folder: gets profile.json, the table, and trace.json.gz, for Perfetto or chrome://tracing.
        about: what the run is; goes into profile.json, of absolute paths the last name alone.
        say: prints a text.
    """

    def __init__(self, steps: int, folder: Path, about: dict[str, Any], say: Callable[[str], None]) -> None:
        self.steps, self.folder, self.say = steps, folder, say
        # Profiles are kept and shown: where a machine has its files is nobody else's business.
        self.about = {name: _without_folder(value) for name, value in about.items()}
        self.last = _EndOfStep(self)
        self._start_counting()
        self._done = 0
        self._mark = 0.0
        self._forward = self._timing = False
        self._inside = 0.0
        self._patches = ExitStack()
        self._fixed: dict[str, Any] = {}
        self._trace: profile | None = None

    def _start_counting(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.decoding = 0.0
        self.counted: Counter[str] = Counter()

    def setup(self, trainer, module, stage) -> None:
        trainer.datamodule.dataset.time_decoding = True  # before the readers get their copies

    def on_train_start(self, trainer, module) -> None:
        self._timing = True
        self._fixed = {
            "processes": world()[1],
            "clips": module.clips_per_step / world()[1],
            "file_bytes": mean_size(trainer.datamodule.dataset),
            "gradient_bytes": sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad),
        }
        copies = [part.network for part in module.modules() if isinstance(part, MomentumEncoder)]
        for network in backbones(module).values():
            shuffled = any(network is copy for copy in copies) and uses_batch_statistics(network)
            self._time_calls_of(network, NETWORKS, shuffled)
        for attribute in vars(module).values():
            if isinstance(attribute, RAFTPairs):
                self._time_calls_of(attribute.network, FLOW)
        for queue in module.modules():
            if isinstance(queue, FeatureQueue):
                self._patch(queue, "enqueue", self._counting_rows(queue))
        self._patch(trainer.strategy, "batch_to_device", self._after_waiting(trainer.strategy.batch_to_device))
        own, timed = getattr(torch.ops, NAMESPACE), SimpleNamespace()
        for op in (schema.name.split("::")[1] for schema in _schemas()):
            part = AUGMENT if op in AUGMENT_OPS else FLOW if op in FLOW_OPS else LOSSES
            operator = getattr(own, op)
            operator = operator.default if op in NETWORK_OPS else self._timed(part, operator)
            setattr(timed, op, SimpleNamespace(default=operator))
        setattr(torch.ops, TIMED_NAMESPACE, timed)
        self._patches.callback(delattr, torch.ops, TIMED_NAMESPACE)
        self._patches.enter_context(use_namespace(TIMED_NAMESPACE))
        self._mark = self._now()

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self._end(COPY)
        self._forward, self._inside = self._timing, 0.0
        self.counted["videos"] += len(batch)
        self.decoding += batch.decoding

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
            self._start_counting()
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
        decoding = {"milliseconds": 1e3 * self.decoding / steps, "readers": self.about["workers"]}
        summary = {
            "steps": steps,
            "milliseconds": milliseconds,
            "decoding": {**decoding, "decoder": self.about["decoder"]},
            "counts": {**self._fixed, **{name: self.counted[name] / steps for name in COUNTED}},
            "run": self.about,
            "machine": machine_info(),
        }
        self.folder.mkdir(exist_ok=True)
        (self.folder / SUMMARY).write_text(json.dumps(summary, indent=2, default=str) + "\n")
        self.say(table(steps, milliseconds))
        self.say(decoding_line(**summary["decoding"]))

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

    def _after_waiting(self, copy: Callable) -> Callable:
        def timed(*args, **kwargs):
            self._end(WAIT)
            return copy(*args, **kwargs)

        return timed

    def _time_calls_of(self, network: nn.Module, part: str, shuffled: bool = False) -> None:
        """Around the compiled call, where there is one: a hook would be compiled too."""
        before = network._compiled_call_impl
        call = before or network._call_impl
        self._patch(network, "_compiled_call_impl", self._timed(part, self._counting_maps(call) if shuffled else call))

    def _counting_maps(self, call: Callable) -> Callable:
        def counting(clips, *args, **kwargs):
            maps = call(clips, *args, **kwargs)
            self.counted["key_clip_bytes"] += clips.nbytes
            self.counted["key_map_bytes"] += maps.nbytes
            return maps

        return counting

    def _counting_rows(self, queue: FeatureQueue) -> Callable:
        enqueue = queue.enqueue

        def counting(features, ids=None):
            self.counted["key_bytes"] += features.numel() * queue.features.element_size()
            self.counted["key_bytes"] += len(features) * queue.ids.element_size()
            return enqueue(features, ids)

        return counting

    def _patch(self, thing: Any, name: str, value: Any) -> None:
        """Set an attribute until the timing is over."""
        if name in vars(thing):
            self._patches.callback(setattr, thing, name, vars(thing)[name])
        else:
            self._patches.callback(delattr, thing, name)
        setattr(thing, name, value)


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


def decoding_line(milliseconds: float, readers: int, decoder: str) -> str:
    """What the readers do beside a step, as a text."""
    where = f"in {readers} reader{'s' * (readers > 1)} beside it"
    if not readers:
        where = "in the training process: part of its waiting"
    dali = "reading for DALI, which decodes in the training process,"
    what = {"pyav": "decoding", "dali": dali, "auto": "reading"}[decoder]
    return f"  {what} {where}: {milliseconds:.2f} ms of a core a step"


def mean_size(dataset: VideoDataset) -> float | None:
    """Bytes of the videos' files, the mean of `SIZED` of them at most; None where there are none to be seen."""
    sizes = []
    for index in range(0, len(dataset), -(-len(dataset) // SIZED)):
        with suppress(OSError):
            sizes.append(os.path.getsize(dataset.path(index)))
    return sum(sizes) / len(sizes) if sizes else None


def _without_folder(value: Any) -> Any:
    return Path(value).name if isinstance(value, str | Path) and Path(value).is_absolute() else value


def _schemas() -> list:
    return [schema for schema in torch._C._jit_get_all_schemas() if schema.name.startswith(f"{NAMESPACE}::")]
