"""The glue of `make gpu`: parts, their time, what they leave behind; and the operators that the sanitizers watch."""

import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu, small_shapes
from benchmarks.gpu import Outcome, Part

ROOT = Path(__file__).parents[2]


def script(name, text, seconds=30.0, **more):
    return Part(name, [sys.executable, "-c", text], seconds, **more)


def test_the_groups_fit_into_eight_minutes():
    for device in ("cuda", "cpu"):
        groups = gpu.plan(device, "9.0")
        assert sum(max(part.seconds for part in group) for group in groups) <= 480
        names = [part.name for group in groups for part in group]
        sanitizers = ["memcheck", "racecheck", "initcheck"]
        assert names == ["build", "emulator", "tests", *sanitizers, "warm-up", "benchmarks", "report"]


def test_the_gpu_is_required_there_and_only_its_architecture_built():
    build, tests = gpu.plan("cuda", "9.0")[0][0], gpu.plan("cuda", "9.0")[1][0]
    assert build.environment == {"MOTIONOPS_CUDA": "1", "TORCH_CUDA_ARCH_LIST": "9.0"}
    assert tests.environment["MOTIONOPS_REQUIRE"] == "cpu,cuda"


def test_the_tests_take_the_cores_and_leave_out_what_needs_no_gpu(monkeypatch):
    monkeypatch.setattr(gpu.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(gpu, "installed", lambda name: True)
    words = {}
    for device in ("cuda", "cpu"):
        groups = gpu.plan(device, "9.0")
        words[device] = " ".join(groups[1][0].command)
        assert bool(groups[0][1].skipped) == (device == "cuda")  # the emulator, which those tests alone use
    assert "-n 14 --dist worksteal -k not emulated" in words["cuda"]
    assert "-n 16 --dist worksteal" in words["cpu"]
    assert "-k" not in words["cpu"]
    monkeypatch.setattr(gpu, "installed", lambda name: name != "xdist")
    assert "-n" not in gpu.plan("cuda", "9.0")[1][0].command


@pytest.mark.parametrize("option", ["--kernel-name", "--kernel-regex"])
def test_the_sanitizers_judge_our_kernels_alone(monkeypatch, tmp_path, option):
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(f"#!/bin/sh\necho '  {option} arg     key1=val1,key2=val2,...'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    parts = {part.name: part for part in gpu.plan("cuda", "9.0")[1]}
    for name in ("memcheck", "racecheck"):
        assert parts[name].command[:5] == [str(tool), "--tool", name, "--error-exitcode", "86"]
        assert f"{option} kns=motionops" in " ".join(parts[name].command)
        assert not parts[name].missing
    # by its reports, not by a filter
    assert parts["initcheck"].command[1:] == ["-m", "benchmarks.initcheck", "--sanitizer", str(tool)]


def test_a_machine_without_the_tools_is_incomplete(monkeypatch):
    monkeypatch.setattr(gpu.shutil, "which", lambda name: None)
    monkeypatch.setattr(gpu, "installed", lambda name: False)
    missing = {
        device: [part.name for group in gpu.plan(device, "9.0") for part in group if part.missing and not part.skipped]
        for device in ("cuda", "cpu")
    }
    assert missing["cuda"] == ["memcheck", "racecheck", "initcheck", "warm-up", "benchmarks", "report"]
    assert missing["cpu"] == ["benchmarks", "report"]


def test_a_part_that_could_not_be_run_is_no_success(monkeypatch, capsys):
    groups = [[script("build", "")], [script("memcheck", "", missing="no compute-sanitizer here")]]
    monkeypatch.setattr(gpu, "plan", lambda device, architecture: groups)
    written = []
    monkeypatch.setattr(gpu, "write_proof", lambda outcomes, absent, seconds: written.extend(outcomes))
    assert gpu.main(["--device", "cpu"]) == 2
    said = "**Incomplete**: not run for want of a tool: memcheck (no compute-sanitizer here)."
    assert said in capsys.readouterr().out
    assert said in gpu.proof({}, written, [], 1.0)
    assert "| memcheck | missing | 0 |" in gpu.proof({}, written, [], 1.0)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({"build": "passed", "memcheck": "skipped"}, 0),
        ({"build": "passed", "warm-up": "out of time"}, 0),
        ({"build": "passed", "benchmarks": "out of time", "memcheck": "missing"}, 1),
        ({"build": "passed", "memcheck": "missing"}, 2),
    ],
)
def test_exit_status(statuses, expected):
    assert gpu.exit_status([Outcome(name, status, 1.0, "") for name, status in statuses.items()]) == expected


def test_what_is_absent_is_named(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "plan", lambda device, architecture: [[script("build", "")]])
    monkeypatch.setattr(gpu, "missing", lambda: ["Inf-CL"])
    monkeypatch.setattr(gpu, "installed", lambda name: name != "nvidia.dali")
    absent = []
    monkeypatch.setattr(gpu, "write_proof", lambda outcomes, names, seconds: absent.extend(names))
    assert gpu.main(["--device", "cpu"]) == 0
    assert absent == ["Inf-CL", "nvidia.dali"]


def test_how_parts_end():
    parts = [
        script("good", "print('done')"),
        script("bad", "print('why'); raise SystemExit(3)"),
        script("late", "import time; print('started', flush=True); time.sleep(60)", seconds=3.0),
        script("unmeant", "", skipped="for a GPU"),
        script("absent", "", missing="no tool here"),
        script("told", "import os; print(os.environ['WORD'])", environment={"WORD": "heard"}),
    ]
    start = time.monotonic()
    outcomes = {outcome.name: outcome for outcome in gpu.run_together(parts)}
    assert time.monotonic() - start < 30
    assert list(outcomes) == [part.name for part in parts]
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "good": "passed",
        "bad": "failed",
        "late": "out of time",
        "unmeant": "skipped",
        "absent": "missing",
        "told": "passed",
    }
    assert outcomes["bad"].text == "why"
    assert outcomes["late"].text == "started"
    assert outcomes["absent"].text == "no tool here"
    assert outcomes["told"].text == "heard"


def test_what_a_late_part_started_is_ended_too(tmp_path):
    child = f"import time; time.sleep(4); open({str(tmp_path / 'alive')!r}, 'w')"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert gpu.run_together([script("late", parent, seconds=2.0)])[0].status == "out of time"
    time.sleep(4)
    assert not (tmp_path / "alive").exists()


def test_the_proof_names_what_was_not_there(monkeypatch):
    monkeypatch.setattr(gpu, "ROOT", Path("/some/where"))
    outcomes = [Outcome("build", "passed", 60.0, "ok"), Outcome("tests", "failed", 90.0, "/some/where/tests/x.py: no")]
    text = gpu.proof({"GPU 0": "NVIDIA X"}, outcomes, ["kornia", "Liger"], 150.0)
    assert "- GPU 0: NVIDIA X" in text
    assert "neither measured nor tested: kornia, Liger." in text
    assert "| tests | failed | 90 |" in text
    assert "/some/where" not in text
    assert "150 seconds in all" in text


def test_a_failed_build_ends_the_run(monkeypatch, capsys):
    groups = [[script("build", "raise SystemExit(1)")], [script("tests", "print('never')")]]
    monkeypatch.setattr(gpu, "plan", lambda device, architecture: groups)
    assert gpu.main(["--device", "cpu"]) == 1
    shown = capsys.readouterr().out
    assert "build: failed" in shown
    assert "never" not in shown
    assert "written" not in shown


def test_a_machine_without_a_gpu_is_told(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "architecture_here", lambda: "")
    assert gpu.main([]) == 1
    assert "torch finds no GPU here" in capsys.readouterr().out
    assert gpu.main(["--dry-run"]) == 0
    assert "compute-sanitizer --tool racecheck" in capsys.readouterr().out


@pytest.mark.parametrize("name", small_shapes.CASES)
def test_small_shapes(backend, name):
    small_shapes.CASES[name](backend.device)


def test_every_operator_has_a_small_shape():
    operators = {path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("*/bench_*.py")}
    # Those that are no operators but readers of files.
    assert operators - {"reading", "motion_vectors"} == set(small_shapes.CASES)
