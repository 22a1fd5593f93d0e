"""make gpu: build, tests, compute-sanitizer and benchmarks on a CUDA machine, in eight minutes and without a network.

Needs torch, a CUDA toolkit, ninja, pytest and pytest-benchmark; every other package that is missing is named, and what
needs it is left out. Writes benchmarks/results/<gpu>/*.json, proof.md beside them, and docs/performance.md.

    python -m benchmarks.gpu                        # what make gpu runs
    python -m benchmarks.gpu --device cpu           # the same parts on the CPU, without the sanitizers
    python -m benchmarks.gpu --dry-run              # only print the commands
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers import installed, missing

ROOT = Path(__file__).resolve().parent.parent
SANITIZERS = ("memcheck", "racecheck", "initcheck")
# Packages of the test list, beside those that are peers.
TEST_PARTS = (
    "av",
    "lightning",
    "tyro",
    "tqdm",
    "tensorboard",
    "yaml",
    "sklearn",
    "safetensors",
    "hypothesis",
    "matplotlib",
)
TEST_PARTS += ("jax", "xdist")
LAST_LINES = 15


@dataclass
class Part:
    """A command with its share of the eight minutes; `skipped` says why it is not run."""

    name: str
    command: list[str]
    seconds: float
    environment: dict[str, str] = field(default_factory=dict)
    skipped: str = ""


@dataclass
class Outcome:
    """How a part ended: passed, failed, out of time or skipped; with the end of what it printed."""

    name: str
    status: str
    seconds: float
    text: str


def plan(device: str, architecture: str) -> list[list[Part]]:
    """The parts: groups one after another, the parts of a group at once.

    Args:
        device: cuda or cpu.
        architecture: compute capability to build for, "9.0"; empty: the build's own list.
    """
    python = sys.executable
    on_gpu = device == "cuda"
    build = {"MOTIONOPS_CUDA": "1" if on_gpu else "0"}
    if architecture:
        build["TORCH_CUDA_ARCH_LIST"] = architecture
    processes = ["-n", str(min(8, os.cpu_count() or 1)), "--dist", "worksteal"] if installed("xdist") else []
    tests = Part(
        "tests",
        [python, "-m", "pytest", "tests", "-q", *processes, "-p", "no:cacheprovider", "-rf"],
        150,
        {"MOTIONOPS_REQUIRE": f"cpu,{device}" if on_gpu else "cpu", "OMP_NUM_THREADS": "1", **build},
    )
    sanitizer = shutil.which("compute-sanitizer")
    sanitizers = [
        Part(
            tool,
            [
                *(sanitizer or "compute-sanitizer", "--tool", tool, "--error-exitcode", "86", "--print-limit", "5"),
                *(python, "-m", "benchmarks.small_shapes", "--device", device),
            ],
            150,
            # Memory of a kernel's own allocation: a cache would hide what lies beside it.
            {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
            "" if on_gpu and sanitizer else "no compute-sanitizer here" if on_gpu else "for a GPU",
        )
        for tool in SANITIZERS
    ]
    benchmarks = Part(
        "benchmarks",
        [python, "-m", "pytest", "benchmarks", "--benchmark-only", "-q", "-k", device, "-p", "no:cacheprovider"],
        160,
        {"MOTIONOPS_BENCH_SECONDS": "0.25"},
        "" if installed("pytest_benchmark") else "no pytest-benchmark here",
    )
    report = Part(
        "report", [python, "-m", "benchmarks.report"], 20, {}, "" if installed("matplotlib") else "no matplotlib here"
    )
    return [
        [
            Part("build", [python, "-m", "build_support.ninja_build", "extension"], 140, build),
            # The CUDA sources compiled for the host: the tests take it where it is there.
            Part("emulator", [python, "-m", "build_support.ninja_build", "emulated"], 140, build),
        ],
        [tests, *sanitizers],
        [benchmarks],
        [report],
    ]


def run_together(parts: Sequence[Part]) -> list[Outcome]:
    """Run the parts of a group at once; each has its own time, and is ended with its children when that is over."""
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for part in parts:
            if part.skipped:
                continue
            log = open(Path(folder) / part.name, "w+")  # noqa: SIM115 - open while its process runs
            process = subprocess.Popen(
                part.command,
                cwd=ROOT,
                env={**os.environ, **part.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            started.append((part, process, log, time.monotonic()))
        outcomes = {part.name: Outcome(part.name, "skipped", 0.0, part.skipped) for part in parts if part.skipped}
        for part, process, log, start in started:
            try:
                code = process.wait(max(0.0, start + part.seconds - time.monotonic()))
                status = "passed" if code == 0 else "failed"
            except subprocess.TimeoutExpired:
                status = "out of time"
            except BaseException:
                end(other for _, other, _, _ in started)
                raise
            if status == "out of time":
                end([process])
            seconds = time.monotonic() - start
            log.flush()
            log.seek(0)
            with log:
                outcomes[part.name] = Outcome(part.name, status, seconds, last_lines(log.read()))
    return [outcomes[part.name] for part in parts]


def end(processes) -> None:
    """Kill processes with all that they started."""
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_lines(text: str) -> str:
    """The end of what a part printed, without what a bar wrote over."""
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
    return "\n".join([line for line in lines if line][-LAST_LINES:])


def proof(machine: dict[str, str], outcomes: Sequence[Outcome], absent: Sequence[str], seconds: float) -> str:
    """What was run and how it ended, as Markdown."""
    lines = ["# What was run", "", *(f"- {name}: {value}" for name, value in machine.items()), ""]
    lines += [f"Not installed, and so neither measured nor tested: {', '.join(absent) or 'nothing'}.", ""]
    lines += ["| part | result | seconds |", "|---|---|---:|"]
    lines += [f"| {outcome.name} | {outcome.status} | {outcome.seconds:.0f} |" for outcome in outcomes]
    lines += ["", f"{seconds:.0f} seconds in all."]
    for outcome in outcomes:
        lines += ["", f"## {outcome.name}: {outcome.status}", "", "```", relative(outcome.text), "```"]
    return "\n".join(lines) + "\n"


def relative(text: str) -> str:
    """Without the folder that this copy of the repository happens to be in."""
    return text.replace(f"{ROOT}{os.sep}", "").replace(str(ROOT), ".").replace(sys.prefix, "python")


def architecture_here() -> str:
    """The GPU's compute capability, so that nothing else is compiled; empty without one."""
    import torch

    return ".".join(map(str, torch.cuda.get_device_capability())) if torch.cuda.is_available() else ""


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; 0 where each passed or was skipped."""
    parser = argparse.ArgumentParser(description="Build, test, sanitize and measure on this machine's GPU.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    options = parser.parse_args(arguments)
    architecture = architecture_here() if options.device == "cuda" else ""
    groups = plan(options.device, architecture)
    if options.dry_run:
        for part in (part for group in groups for part in group):
            variables = [f"{name}={value}" for name, value in part.environment.items()]
            print(f"# {part.name}: {part.seconds:.0f} s at most{f', skipped: {part.skipped}' if part.skipped else ''}")
            print(shlex.join([*variables, *part.command]))
        return 0
    if options.device == "cuda" and not architecture:
        print("make gpu: torch finds no GPU here; python -m benchmarks.gpu --device cpu runs what needs none")
        return 1
    absent = [*missing(), *(name for name in TEST_PARTS if not installed(name))]
    start, outcomes = time.monotonic(), []
    for group in groups:
        print(f"== {', '.join(part.name for part in group)}", flush=True)
        outcomes += run_together(group)
        for outcome in outcomes[-len(group) :]:
            print(f"{outcome.name}: {outcome.status}, {outcome.seconds:.0f} s\n{outcome.text}\n", flush=True)
        if outcomes[0].status != "passed":
            break  # without a build there is nothing to test
    write_proof(outcomes, absent, time.monotonic() - start)
    return 0 if all(outcome.status in ("passed", "skipped") for outcome in outcomes) else 1


def write_proof(outcomes: Sequence[Outcome], absent: Sequence[str], seconds: float) -> None:
    """proof.md beside the machine's results; without a build there is no such place, and it is printed alone."""
    if outcomes[0].status != "passed":
        return
    from benchmarks.machine import machine_name
    from motionops.info import machine_info

    folder = ROOT / "benchmarks" / "results" / machine_name()
    folder.mkdir(parents=True, exist_ok=True)
    text = proof(machine_info(), outcomes, absent, seconds)
    (folder / "proof.md").write_text(text)
    print(f"written: {folder.relative_to(ROOT)}/proof.md")


if __name__ == "__main__":
    sys.exit(main())
