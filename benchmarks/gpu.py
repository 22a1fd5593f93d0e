"""make gpu: what a CUDA machine is asked in a few minutes and without a network, in order of worth and in pieces.

    python -m benchmarks.gpu                                         # what make gpu runs
    python -m benchmarks.gpu --parts tests,sanitizers --minutes 4    # some of it, in that time
    python -m benchmarks.gpu --device cpu                            # the same on the CPU, without the sanitizers
    python -m benchmarks.gpu --dry-run                               # only print the commands

Needs torch, pytest and pytest-benchmark, and to build a CUDA toolkit and ninja; every other package that is missing is
named, and what needs it is left out. Each part has its share of the minutes; what one does not use is the next one's.
One that is out of time keeps what it has: results are written case by case, a failing test is printed when it fails,
and proof.md grows part by part. Writes benchmarks/results/<gpu>/*.json, proof.md beside them, and docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.in_time import OUT_OF_TIME
from benchmarks.peers import installed, missing
from benchmarks.report import PAGE, RESULTS

ROOT = Path(__file__).resolve().parent.parent
# What can be asked for, in the order in which it is run.
PARTS = ("build", "tests", "sanitizers", "step", "benchmarks")
MINUTES = 10.0
# Of the time that is left, in proportion to those of the groups that are still to come.
SHARES = {"build": 3.0, "tests": 4.0, "step": 4.0, "benchmarks": 4.0, "report": 0.5}
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
# A test that has begun may end, and a run that is interrupted may tell what it has.
GRACE = 8.0
# Below this, a CPU's seconds would go to compilers and slow peers.
UNHURRIED_FROM = 300.0


@dataclass
class Part:
    """A command; `skipped` says why it is not meant for this device, `missing` what it needs and is not here: then the
    run is incomplete. `{seconds}` in the command is the time that it has."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    skipped: str = ""
    missing: str = ""


@dataclass
class Group:
    """Parts that run at once, and their share of the time."""

    parts: list[Part]
    share: float


@dataclass
class Outcome:
    """How a part ended: passed, failed, out of time, skipped or missing; with the end of what it printed."""

    name: str
    status: str
    seconds: float
    text: str


def plan(
    device: str, architecture: str, parts: Sequence[str] = PARTS, minutes: float = MINUTES, results: Path = RESULTS
) -> list[Group]:
    """The groups one after another.

    Args:
        device: cuda or cpu.
        architecture: compute capability to build for, "9.0"; empty: the build's own list.
        parts: some of :data:`PARTS`.
        minutes: what all of them may take.
        results: folder of the machines' results.
    """
    python = sys.executable
    on_gpu = device == "cuda"
    build = {"MOTIONOPS_CUDA": "1" if on_gpu else "0"}
    if architecture:
        build["TORCH_CUDA_ARCH_LIST"] = architecture
    cores = os.cpu_count() or 1
    in_time = ["-p", "no:cacheprovider", "-p", "benchmarks.in_time", "--in-seconds", "{seconds}"]
    # Kernels that are compiled for the host need no GPU: they are tested where there is none.
    backends = ["--backend", "cpu,cuda"] if on_gpu else []
    tests = Part(
        "tests",
        [
            *(python, "-m", "pytest", "tests", "-q", *in_time, *backends),
            *workers(max(1, cores - 2) if on_gpu else cores),
        ],
        {"MOTIONOPS_REQUIRE": f"cpu,{device}" if on_gpu else "cpu", "OMP_NUM_THREADS": "1", **build},
    )
    measured = [python, "-m", "pytest", "benchmarks", "-q", "--device", device, *in_time]
    benchmarks_miss = "" if installed("pytest_benchmark") else "no pytest-benchmark here"
    warm_up = Part(
        WARM_UP,
        [*measured, *workers(3), "--benchmark-disable"],
        {"MOTIONOPS_BENCH_SECONDS": "0", "TORCHINDUCTOR_COMPILE_THREADS": "2", "OMP_NUM_THREADS": "2"},
        "" if on_gpu else "for a GPU",
        benchmarks_miss,
    )
    where = {"MOTIONOPS_BENCH_RESULTS": str(results)}
    hurried = {"MOTIONOPS_BENCH_HURRY": "1"} if not on_gpu and 60 * minutes < UNHURRIED_FROM else {}
    benchmarks = Part(
        "benchmarks",
        [*measured, "--benchmark-only"],
        {"MOTIONOPS_BENCH_SECONDS": "0.25", **where, **hurried},
        "",
        benchmarks_miss,
    )
    no_trainers = [name for name in ("lightning", "tyro", "av", "torchvision") if not installed(name)]
    step = Part(
        "step",
        [python, "-m", "benchmarks.step", "--device", device, "--seconds", "{seconds}", "--results", str(results)],
        {},
        "",
        f"no {', '.join(no_trainers)} here" if no_trainers else "",
    )
    no_matplotlib = "" if installed("matplotlib") else "no matplotlib here"
    page = PAGE if results == RESULTS else results / PAGE.name
    report = Part(
        "report",
        [python, "-m", "benchmarks.report", "--results", str(results), "--page", str(page)],
        missing=no_matplotlib,
    )
    emulated = "" if not on_gpu and "tests" in parts else "for the tests on a machine without a GPU"
    emulator = Part("emulator", [python, "-m", "build_support.ninja_build", "emulated"], build, emulated)
    groups = {
        "build": [Part("build", [python, "-m", "build_support.ninja_build", "operators"], build), emulator],
        "tests": [
            *([tests] if "tests" in parts else []),
            *(sanitizers(on_gpu) if "sanitizers" in parts else []),
            *([warm_up] if "benchmarks" in parts and {"tests", "sanitizers"} & set(parts) else []),
        ],
        "step": [step],
        "benchmarks": [benchmarks],
        "report": [report],
    }
    asked = {"build": "build", "step": "step", "benchmarks": "benchmarks", "report": "benchmarks"}
    return [
        Group(members, SHARES[name])
        for name, members in groups.items()
        if members and (name not in asked or asked[name] in parts)
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


def seconds_of(group: Group, coming: Sequence[Group], left: float) -> float:
    """Its part of the time that is left, by the shares of those that are still to come."""
    return max(0.0, left) * group.share / (group.share + sum(other.share for other in coming))


def run_together(parts: Sequence[Part], seconds: float, logs: Path) -> list[Outcome]:
    """Run the parts of a group at once, each for so many seconds at most; all that they print is in `logs`."""
    logs.mkdir(parents=True, exist_ok=True)
    outcomes, started = {}, []
    for part in parts:
        if part.skipped or part.missing:
            status = "skipped" if part.skipped else "missing"
            outcomes[part.name] = Outcome(part.name, status, 0.0, part.skipped or part.missing)
            continue
        own = f"{max(1.0, seconds - GRACE):.0f}"
        log = open(logs / f"{part.name}.log", "w+")  # noqa: SIM115 - open while its process runs
        process = subprocess.Popen(
            [word.replace("{seconds}", own) for word in part.command],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **part.environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_take_interrupts,
        )
        started.append((part, process, log, time.monotonic()))
    for part, process, log, start in started:
        try:
            code = process.wait(max(0.0, start + seconds - time.monotonic()))
            status = {0: "passed", OUT_OF_TIME: "out of time"}.get(code, "failed")
        except subprocess.TimeoutExpired:
            status = "out of time"
            end([process])
        except BaseException:
            end([other for _, other, _, _ in started])
            raise
        log.flush()
        log.seek(0)
        with log:
            outcomes[part.name] = Outcome(part.name, status, time.monotonic() - start, last_lines(log.read()))
    return [outcomes[part.name] for part in parts]


def _take_interrupts() -> None:
    """A shell that starts this in the background lets its children ignore the signal that asks a part to end."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end(processes: Sequence[subprocess.Popen]) -> None:
    """Interrupt processes, which lets pytest tell what it has, and kill what remains of them and of their children."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    until = time.monotonic() + GRACE / 2
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))
        with contextlib.suppress(ProcessLookupError):  # none of its group is left
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
    """0 where all that is meant for this device passed; 1 where a part failed, 3 where one was out of time, 2 where one
    could not be run."""
    statuses = {outcome.status for outcome in outcomes if outcome.name != WARM_UP}
    return next((code for code, name in ((1, "failed"), (3, "out of time"), (2, "missing")) if name in statuses), 0)


def relative(text: str) -> str:
    """Without the folder that this copy of the repository happens to be in."""
    return text.replace(f"{ROOT}{os.sep}", "").replace(str(ROOT), ".").replace(sys.prefix, "python")


def architecture_here() -> str:
    """The GPU's compute capability, so that nothing else is compiled; empty without one."""
    import torch

    return ".".join(map(str, torch.cuda.get_device_capability())) if torch.cuda.is_available() else ""


def chosen(text: str) -> tuple[str, ...]:
    """--parts, in the order in which they run."""
    asked = text.split(",")
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return tuple(name for name in PARTS if name in asked)


def print_plan(groups: Sequence[Group], seconds: float) -> None:
    """The commands, with the time that each has where those before it use up theirs."""
    for index, group in enumerate(groups):
        own = seconds_of(group, groups[index + 1 :], seconds)
        seconds -= own
        for part in group.parts:
            variables = [f"{name}={value}" for name, value in part.environment.items()]
            reasons = [("skipped", part.skipped), ("missing", part.missing)]
            words = [f"{own:.0f} s", *(f"{kind}: {reason}" for kind, reason in reasons if reason)]
            print(f"# {part.name}: {', '.join(words)}")
            command = [word.replace("{seconds}", f"{max(1.0, own - GRACE):.0f}") for word in part.command]
            print(shlex.join([*variables, *command]))


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; :func:`exit_status`."""
    parser = argparse.ArgumentParser(description="Build, test, sanitize and measure on this machine's GPU.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", type=chosen, default=PARTS, help=f"some of {','.join(PARTS)}; default: all")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"for all of them; default: {MINUTES:g}")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the machines' results")
    parser.add_argument("--logs", type=Path, default=ROOT / "build" / "gpu", help="folder for all that the parts print")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    options = parser.parse_args(arguments)
    options.results, options.logs = options.results.resolve(), options.logs.resolve()
    architecture = architecture_here() if options.device == "cuda" else ""
    groups = plan(options.device, architecture, options.parts, options.minutes, options.results)
    if options.dry_run:
        print_plan(groups, 60 * options.minutes)
        return 0
    if options.device == "cuda" and not architecture:
        print("make gpu: torch finds no GPU here; python -m benchmarks.gpu --device cpu runs what needs none")
        return 1
    absent = [*missing(), *(name for name in TEST_PARTS if not installed(name))]
    start, outcomes = time.monotonic(), []
    for index, group in enumerate(groups):
        seconds = seconds_of(group, groups[index + 1 :], 60 * options.minutes - (time.monotonic() - start))
        print(f"== {', '.join(part.name for part in group.parts)}: {seconds:.0f} s", flush=True)
        outcomes += run_together(group.parts, seconds, options.logs)
        for outcome in outcomes[-len(group.parts) :]:
            print(f"{outcome.name}: {outcome.status}, {outcome.seconds:.0f} s\n{outcome.text}\n", flush=True)
        if outcomes[0].name == "build" and outcomes[0].status != "passed":
            return exit_status(outcomes)  # without a build there is nothing to test, and no place for a proof
        write_proof(options.results, outcomes, absent, time.monotonic() - start)
    if incomplete(outcomes):
        print(incomplete(outcomes))
    return exit_status(outcomes)


def write_proof(results: Path, outcomes: Sequence[Outcome], absent: Sequence[str], seconds: float) -> None:
    """proof.md beside the machine's results, anew after each group."""
    from benchmarks.machine import machine_name
    from motionops.info import machine_info

    folder = results / machine_name()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "proof.md").write_text(proof(machine_info(), outcomes, absent, seconds))
    print(f"written: {folder / 'proof.md'}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
