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
TEST_PARTS += ("jax", "xdist", "nvidia.dali")
LAST_LINES = 15
# It only fills the caches of compilers; what it finds, the benchmarks find again.
WARM_UP = "warm-up"


@dataclass
class Part:
    """A command with its share of the eight minutes; `skipped` says why it is not meant for this device, `missing` what
    it needs and is not here: then the run is incomplete."""

    name: str
    command: list[str]
    seconds: float
    environment: dict[str, str] = field(default_factory=dict)
    skipped: str = ""
    missing: str = ""


@dataclass
class Outcome:
    """How a part ended: passed, failed, out of time, skipped or missing; with the end of what it printed."""

    name: str
    status: str
    seconds: float
    text: str


def plan(device: str, architecture: str) -> list[list[Part]]:
    """The parts: groups one after another, the parts of a group at once; 480 seconds at most.

    Args:
        device: cuda or cpu.
        architecture: compute capability to build for, "9.0"; empty: the build's own list.
    """
    python = sys.executable
    on_gpu = device == "cuda"
    build = {"MOTIONOPS_CUDA": "1" if on_gpu else "0"}
    if architecture:
        build["TORCH_CUDA_ARCH_LIST"] = architecture
    cores = os.cpu_count() or 1
    tests = Part(
        "tests",
        [
            *(python, "-m", "pytest", "tests", "-q", "-p", "no:cacheprovider", "-rf"),
            # Kernels that are compiled for the host need no GPU: they are tested where there is none.
            *([*workers(max(1, cores - 2)), "-k", "not emulated"] if on_gpu else workers(cores)),
        ],
        160,
        {"MOTIONOPS_REQUIRE": f"cpu,{device}" if on_gpu else "cpu", "OMP_NUM_THREADS": "1", **build},
    )
    measured = [python, "-m", "pytest", "benchmarks", "-q", "-k", device, "-p", "no:cacheprovider"]
    benchmarks_miss = "" if installed("pytest_benchmark") else "no pytest-benchmark here"
    warm_up = Part(
        WARM_UP,
        [*measured, *workers(3), "--benchmark-disable"],
        160,
        {"MOTIONOPS_BENCH_SECONDS": "0", "TORCHINDUCTOR_COMPILE_THREADS": "2", "OMP_NUM_THREADS": "2"},
        "" if on_gpu else "for a GPU",
        benchmarks_miss,
    )
    benchmarks = Part(
        "benchmarks", [*measured, "--benchmark-only"], 160, {"MOTIONOPS_BENCH_SECONDS": "0.25"}, "", benchmarks_miss
    )
    no_matplotlib = "" if installed("matplotlib") else "no matplotlib here"
    report = Part("report", [python, "-m", "benchmarks.report"], 20, missing=no_matplotlib)
    build_emulated = [python, "-m", "build_support.ninja_build", "emulated"]
    emulator = Part("emulator", build_emulated, 140, build, "for a machine without a GPU" if on_gpu else "")
    return [
        [Part("build", [python, "-m", "build_support.ninja_build", "extension"], 140, build), emulator],
        [tests, *sanitizers(on_gpu), warm_up],
        [benchmarks],
        [report],
    ]


def workers(count: int) -> list[str]:
    """pytest's arguments for several processes, where pytest-xdist is installed."""
    return ["-n", str(count), "--dist", "worksteal"] if installed("xdist") else []


def sanitizers(on_gpu: bool) -> list[Part]:
    """compute-sanitizer's tools over the operators on small shapes; all of them judge our kernels alone."""
    found = shutil.which("compute-sanitizer")
    tool = found or "compute-sanitizer"
    small_shapes = [sys.executable, "-m", "benchmarks.small_shapes", "--device", "cuda"]
    parts = []
    for name in SANITIZERS:
        if name == "initcheck":
            command = [sys.executable, "-m", "benchmarks.initcheck", "--sanitizer", tool]
        else:
            # Other libraries' kernels are neither checked nor slowed down. What torch asks of the driver in vain is not
            # ours either; a failed launch of ours is an error of the program, and so the tool's.
            limits = [*kernel_filter(found), "--launch-timeout", "0", "--print-limit", "5"]
            limits += ["--report-api-errors", "no"] if name == "memcheck" else []
            command = [tool, "--tool", name, "--error-exitcode", "86", *limits, *small_shapes]
        parts.append(
            Part(
                name,
                command,
                160,
                # Memory of a kernel's own allocation: a cache would hide what lies beside it.
                {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
                "" if on_gpu else "for a GPU",
                "" if found else "no compute-sanitizer here",
            )
        )
    return parts


def kernel_filter(sanitizer: str | None) -> list[str]:
    """The option that has a tool check our kernels alone, by the namespace in their mangled names."""
    text = ""
    if sanitizer:
        text = subprocess.run([sanitizer, "--help"], capture_output=True, text=True).stdout
    # Before CUDA 13 it was called otherwise.
    return ["--kernel-regex" if "--kernel-regex " in text else "--kernel-name", "kns=motionops"]


def run_together(parts: Sequence[Part]) -> list[Outcome]:
    """Run the parts of a group at once; each has its own time, and is ended with its children when that is over."""
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for part in parts:
            if part.skipped or part.missing:
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
        outcomes = {}
        for part in parts:
            if part.skipped or part.missing:
                status = "skipped" if part.skipped else "missing"
                outcomes[part.name] = Outcome(part.name, status, 0.0, part.skipped or part.missing)
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
    lines += [f"{text}\n" for text in [incomplete(outcomes)] if text]
    lines += ["| part | result | seconds |", "|---|---|---:|"]
    lines += [f"| {outcome.name} | {outcome.status} | {outcome.seconds:.0f} |" for outcome in outcomes]
    lines += ["", f"{seconds:.0f} seconds in all."]
    for outcome in outcomes:
        lines += ["", f"## {outcome.name}: {outcome.status}", "", "```", relative(outcome.text), "```"]
    return "\n".join(lines) + "\n"


def incomplete(outcomes: Sequence[Outcome]) -> str:
    """What was meant to be run here and could not; empty where nothing."""
    missed = [f"{outcome.name} ({outcome.text})" for outcome in outcomes if outcome.status == "missing"]
    return f"**Incomplete**: not run for want of a tool: {', '.join(missed)}." if missed else ""


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """0 where all that is meant for this device passed, 1 where a part did not, 2 where one could not be run."""
    statuses = {outcome.status for outcome in outcomes if outcome.name != WARM_UP}
    return 1 if statuses & {"failed", "out of time"} else 2 if "missing" in statuses else 0


def relative(text: str) -> str:
    """Without the folder that this copy of the repository happens to be in."""
    return text.replace(f"{ROOT}{os.sep}", "").replace(str(ROOT), ".").replace(sys.prefix, "python")


def architecture_here() -> str:
    """The GPU's compute capability, so that nothing else is compiled; empty without one."""
    import torch

    return ".".join(map(str, torch.cuda.get_device_capability())) if torch.cuda.is_available() else ""


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; :func:`exit_status`."""
    parser = argparse.ArgumentParser(description="Build, test, sanitize and measure on this machine's GPU.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    options = parser.parse_args(arguments)
    architecture = architecture_here() if options.device == "cuda" else ""
    groups = plan(options.device, architecture)
    if options.dry_run:
        for part in (part for group in groups for part in group):
            variables = [f"{name}={value}" for name, value in part.environment.items()]
            reasons = [("skipped", part.skipped), ("missing", part.missing)]
            words = [f"{part.seconds:.0f} s at most", *(f"{kind}: {reason}" for kind, reason in reasons if reason)]
            print(f"# {part.name}: {', '.join(words)}")
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
    if incomplete(outcomes):
        print(incomplete(outcomes))
    return exit_status(outcomes)


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
