"""What a training step takes: FIMA's at its paper's size, its networks and kernels, then the other trainers' presets.

    python -m benchmarks.step [--device cuda] [--seconds 200] [--only fima-pyav,networks]

On 240 generated H.264 videos of 320 x 240. Each row is a file of its own, written when it is known, in
benchmarks/results/<machine>/step/: `fima-pyav` and `fima-dali` are what --profile says of FIMA (R(2+1)D-18, 16 x 112²,
24 videos in groups of 8, bf16-mixed; no checkpoint within the steps); `networks` has its online and its momentum
network timed apart and the kernels that take most time; each other trainer is its paper's preset, at the largest batch
that fits. With --device cpu all of it is tiny, to try the way.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.conftest import commit
from benchmarks.in_time import OUT_OF_TIME
from benchmarks.machine import machine_name
from benchmarks.peers import installed
from benchmarks.report import RESULTS
from motionops.info import machine_info

ROOT = Path(__file__).resolve().parent.parent
TRAINERS = ROOT / "trainers"
# Steps of --profile that are not counted, and those of its trace: motionops/training/watch/profiling.py.
AROUND = 3 + 2
NEVER = 10**9
KERNELS = 20

FIMA = {"preset": "ucf101", "backbone": "r2plus1d_18", "size": 112, "batch-size": 24, "precision": "bf16-mixed"}
# Each by its preset; MoDist's flow is computed in the step, as the preset has it.
OTHERS = {"mcl": "ucf101", "modist": "kinetics400", "controllable": "ucf101", "context_motion": "ucf101"}
SMALLEST_BATCH = 4


class OutOfTime(Exception):
    """The seconds are over."""


class Steps:
    """The rows, for one device, within some seconds.

    Args:
        device: cuda, or cpu for tiny sizes.
        seconds: for all of them.
        folder: where videos and runs are written.
    """

    def __init__(self, device: torch.device, seconds: float, folder: Path) -> None:
        self.device, self.folder = device, folder
        self.until = time.monotonic() + seconds
        self.tiny = device.type != "cuda"
        self._videos: Path | None = None

    def rows(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """name -> what measures it, in order of worth."""
        rows = {"fima-pyav": lambda: self.fima("pyav"), "networks": self.networks}
        if not self.tiny and installed("nvidia.dali"):  # on a CPU it does not decode H.264
            rows["fima-dali"] = lambda: self.fima("dali")
        return rows | {name: lambda name=name: self.preset(name) for name in OTHERS}

    def left(self) -> float:
        seconds = self.until - time.monotonic()
        if seconds <= 0:
            raise OutOfTime
        return seconds

    def videos(self) -> Path:
        """The folder of the generated videos, with train.txt."""
        if self._videos is None:
            count, height, width, frames = (8, 48, 64, 40) if self.tiny else (240, 240, 320, 96)
            self._videos = generate(self.folder / "videos", count, height, width, frames)
        return self._videos

    def fima(self, decoder: str) -> dict[str, Any]:
        flags = {**(tiny_flags("fima") if self.tiny else FIMA), "decoder": decoder}
        return self.trainer("fima", flags, steps=1 if self.tiny else 10)

    def preset(self, name: str) -> dict[str, Any]:
        """Three steps of a trainer's paper preset at the largest batch that fits, by halving the published one."""
        flags: dict[str, Any] = tiny_flags(name) if self.tiny else {"preset": OTHERS[name], "precision": "bf16-mixed"}
        if self.tiny:
            return self.trainer(name, flags, steps=1)
        batch = published_batch(name)
        while True:
            try:
                return self.trainer(name, {**flags, "batch-size": batch}, steps=3)
            except torch.OutOfMemoryError:
                if batch // 2 < SMALLEST_BATCH:
                    raise
                batch //= 2

    def trainer(self, name: str, flags: dict[str, Any], steps: int) -> dict[str, Any]:
        """profile.json of a run of the trainer."""
        videos = self.videos()
        output = self.folder / name
        shutil.rmtree(output, ignore_errors=True)
        flags = {
            "workers": 0 if self.tiny else max(1, (os.cpu_count() or 1) - 2),
            **flags,
            "data": videos,
            "list": videos / "train.txt",
            "output": output,
            "profile": steps,
            "max-steps": steps + AROUND,
            "epochs": NEVER // 1000,
            "checkpoint-every": NEVER,
        }
        words = [word for flag, value in flags.items() for word in (f"--{flag}", *map(str, listed(value)))]
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self.tiny else {}
        paths = [path for path in [os.environ.get("PYTHONPATH")] if path]  # where wheels were unpacked
        try:
            done = subprocess.run(
                [sys.executable, TRAINERS / f"{name}.py", *words],
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(ROOT), *paths]),
                    "MOTIONOPS_CACHE": str(self.folder / "cache"),
                    **hidden,
                },
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.left(),
            )
        except subprocess.TimeoutExpired as error:
            raise OutOfTime from error
        profile = output / "report" / "profile.json"
        if not profile.exists():
            if "OutOfMemoryError" in done.stderr or "out of memory" in done.stderr:
                raise torch.OutOfMemoryError(f"{name}: batch {flags.get('batch-size')}")
            raise RuntimeError(f"{name} ended with status {done.returncode}: {done.stderr.strip()[-600:]}")
        return json.loads(profile.read_text())

    def networks(self) -> dict[str, Any]:
        """FIMA's forward and backward pass on clips that lie ready: the two networks apart, and kernels by time."""
        from motionops.methods.fima import FIMA, PRESETS, FIMAConfig
        from tests.methods.tiny import CARDS, SMALL

        config = replace(PRESETS["ucf101"], backbone="r2plus1d_18", size=112)
        if self.tiny:
            config = replace(FIMAConfig(), **{**SMALL, **CARDS["fima"].flags})
        torch.manual_seed(0)
        module = FIMA(config).to(self.device, memory_format=torch.channels_last_3d).train()
        module.total_steps = 1
        optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1e-3)
        clips, extents = self.clips(config), self.extents(config.batch_size)
        seconds: Counter[str] = Counter()

        def step() -> None:
            mixed = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=not self.tiny)
            with self.timed(seconds, "forward"), mixed:
                losses, _, enqueued = module.losses(clips, clips.each(module.draw_shuffle), extents)
                loss = sum(losses.values())
            with self.timed(seconds, "backward"):
                loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            for name, rows, ids in enqueued:
                module.get_submodule(name).enqueue(rows, ids)
            module.step += 1

        found: dict[str, list[float]] = {}
        with self.timed_calls(seconds, online=module.backbone, momentum=module.path.key_backbone.network):
            for number in range(2 if self.tiny else 6):
                self.left()
                seconds.clear()
                step()
                if number >= (1 if self.tiny else 3):  # allocations, and what cuDNN looks up
                    for name, value in seconds.items():
                        found.setdefault(name, []).append(1e3 * value)
        return {
            "milliseconds": {name: median(values) for name, values in found.items()},
            "kernels": self.kernels(step),
            "run": {name: getattr(config, name) for name in ("backbone", "frames", "size", "batch_size", "group")},
            "machine": machine_info(),
        }

    def clips(self, config: Any) -> Any:
        from motionops.methods.fima.views import VIEWS, Clips

        def clip() -> torch.Tensor:
            shape = (config.batch_size, 3, config.frames, config.size, config.size)
            return torch.randn(shape, device=self.device).contiguous(memory_format=torch.channels_last_3d)

        def both() -> list[torch.Tensor]:
            return [clip() for _ in range(VIEWS)]

        parts = [[clip() for _ in range(config.stride)] for _ in range(VIEWS)]
        return Clips(both(), both(), parts)

    def extents(self, batch: int) -> torch.Tensor:
        """Overlapping views ``[B, 2, 3, 2]``."""
        start = 0.3 * torch.rand(batch, 2, 3, 1, device=self.device)
        return torch.cat([start, start + 0.5], dim=-1)

    @contextmanager
    def timed(self, seconds: Counter[str], name: str) -> Iterator[None]:
        start = self.now()
        yield
        seconds[name] += self.now() - start

    @contextmanager
    def timed_calls(self, seconds: Counter[str], **networks: torch.nn.Module) -> Iterator[None]:
        """Time every call of the networks."""
        hooks = []
        for name, network in networks.items():
            started: list[float] = []
            hooks.append(network.register_forward_pre_hook(lambda *_, started=started: started.append(self.now())))

            def ended(*_: Any, name: str = name, started: list[float] = started) -> None:
                seconds[name] += self.now() - started.pop()

            hooks.append(network.register_forward_hook(ended))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def kernels(self, step: Callable[[], None]) -> list[dict[str, Any]]:
        """What takes most time in a step: a GPU's kernels, or torch's operators on the CPU."""
        from torch.profiler import ProfilerActivity, profile

        on_gpu = self.device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        with profile(activities=activities) as seen:
            step()
            self.now()
        rows = []
        for event in seen.key_averages():
            if on_gpu and event.device_type != torch.autograd.DeviceType.CUDA:
                continue
            microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            rows.append({"name": event.key, "milliseconds": microseconds / 1e3, "calls": event.count})
        return sorted(rows, key=lambda row: -row["milliseconds"])[:KERNELS]


def listed(value: Any) -> list:
    return list(value) if isinstance(value, tuple) else [value]


def tiny_flags(name: str) -> dict[str, Any]:
    """The flags of the small run that the tests make of a trainer."""
    from tests.methods.tiny import CARDS, SMALL

    own = SMALL | CARDS[name].flags
    return {flag.replace("_", "-"): value for flag, value in own.items() if flag != "evaluation_clips"}  # none is made


def published_batch(name: str) -> int:
    """The batch of a trainer's preset, over all of its paper's GPUs."""
    return import_module(f"motionops.methods.{name}").PRESETS[OTHERS[name]].batch_size


def generate(folder: Path, count: int, height: int, width: int, frames: int) -> Path:
    """Videos of textures that glide, with train.txt; those that are there already are kept."""
    from motionops.video.encoding import write_video

    folder.mkdir(parents=True, exist_ok=True)

    def write(number: int) -> str:
        name = f"video_{number:04d}.mp4"
        if not (folder / name).exists():
            random = np.random.default_rng(number)
            coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
            texture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
            down, right = random.integers(-3, 4, 2)
            write_video(
                folder / name, np.stack([np.roll(texture, (t * down, t * right), (0, 1)) for t in range(frames)])
            )
        return name

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        names = list(pool.map(write, range(count)))
    (folder / "train.txt").write_text("".join(f"{name} {number % 4}\n" for number, name in enumerate(names)))
    return folder


def summary(name: str, row: dict[str, Any]) -> str:
    """A row in one line."""
    if "error" in row:
        return f"{name}: {row['error']}"
    parts = row["milliseconds"]
    text = ", ".join(f"{part} {value:.1f}" for part, value in parts.items() if value >= 0.05)
    whole = "" if name == "networks" else f"{sum(parts.values()):.1f} ms a step: "
    batch = row["run"]["batch_size"]
    lines = [f"{name}, {batch} videos: {whole}{text} ms"]
    for kernel in row.get("kernels", [])[:5]:
        lines.append(f"    {kernel['milliseconds']:9.2f} ms x{kernel['calls']:<5d} {kernel['name'][:90]}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure the rows; 1 where one failed, :data:`OUT_OF_TIME` where some were not begun or not ended."""
    parser = argparse.ArgumentParser(description="What a training step takes.")
    parser.add_argument("--device", default="cuda", type=torch.device)
    parser.add_argument("--seconds", type=float, default=600.0, help="for all rows")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the machines' results")
    parser.add_argument("--only", type=lambda text: text.split(","), help="rows, with commas")
    options = parser.parse_args(arguments)
    target = options.results / machine_name() / "step"
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(options.device, options.seconds, Path(folder))
        rows = steps.rows()
        wanted = [name for name in rows if not options.only or name in options.only]
        for index, name in enumerate(wanted):
            try:
                steps.left()
                row = rows[name]()
            except OutOfTime:
                print(f"out of time: {', '.join(wanted[index:])}", flush=True)
                return 1 if failed else OUT_OF_TIME
            except Exception as error:  # the other rows are worth as much
                failed = True
                row = {"error": f"{type(error).__name__}: {error}"}
                print(summary(name, row), flush=True)
                continue
            row = {**row, "commit": commit(), "date": datetime.now(timezone.utc).date().isoformat()}
            target.mkdir(parents=True, exist_ok=True)
            (target / f"{name}.json").write_text(json.dumps(row, indent=2, default=str) + "\n")
            print(summary(name, row), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
