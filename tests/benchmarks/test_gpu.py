"""The glue of `make gpu`: parts, their time, what they leave behind; and the operators that the sanitizers watch."""

import argparse
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu, small_shapes
from benchmarks.gpu import Outcome, Part

ROOT = Path(__file__).parents[2]


def script(name, text, **more):
    return Part(name, [sys.executable, "-c", text], **more)


def play(monkeypatch, *groups):
    """Let these groups be the plan, with equal shares of the time."""
    monkeypatch.setattr(gpu, "plan", lambda *_: [gpu.Group(parts, 1.0) for parts in groups])


def parts(device, *asked, **settings):
    """name -> part, of the whole plan or of some of it."""
    groups = gpu.plan(device, "9.0", asked or gpu.PARTS, **settings)
    return {part.name: part for group in groups for part in group.parts}


def test_the_order_of_worth():
    for device in ("cuda", "cpu"):
        sanitizers = ["memcheck", "racecheck", "initcheck"]
        names = ["build", "emulator", "tests", *sanitizers, "warm-up", "step", "benchmarks", "report"]
        assert list(parts(device)) == names
    assert list(parts("cuda", "tests", "step")) == ["tests", "step"]
    assert list(parts("cuda", "sanitizers", "benchmarks")) == [*sanitizers, "warm-up", "benchmarks", "report"]
    assert "warm-up" not in parts("cuda", "benchmarks")  # it would only do before what comes then
    assert gpu.chosen("step,tests") == ("tests", "step")
    with pytest.raises(argparse.ArgumentTypeError, match="no such part: test; there are build, tests"):
        gpu.chosen("test")


def test_the_time_that_a_group_leaves_is_the_next_ones():
    groups = gpu.plan("cuda", "9.0")
    left, whole = 480.0, []
    for index, group in enumerate(groups):
        whole.append(gpu.seconds_of(group, groups[index + 1 :], left))
        left -= whole[-1]
    assert sum(whole) == pytest.approx(480)
    assert min(whole) > 10
    # a build of 10 seconds
    assert gpu.seconds_of(groups[1], groups[2:], 470) == pytest.approx(whole[1] * 470 / (480 - whole[0]))
    assert gpu.seconds_of(groups[-1], [], 7.0) == 7
    assert gpu.seconds_of(groups[-1], [], -1.0) == 0


def test_the_gpu_is_required_there_and_only_its_architecture_built():
    assert parts("cuda")["build"].environment == {"MOTIONOPS_CUDA": "1", "TORCH_CUDA_ARCH_LIST": "9.0"}
    assert parts("cuda")["tests"].environment["MOTIONOPS_REQUIRE"] == "cpu,cuda"


def test_the_tests_take_the_cores_and_leave_out_what_needs_no_gpu(monkeypatch):
    monkeypatch.setattr(gpu.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(gpu, "installed", lambda name: True)
    words = {device: " ".join(parts(device)["tests"].command) for device in ("cuda", "cpu")}
    assert words["cuda"].endswith("--backend cpu,cuda -n 14 --dist worksteal")
    assert parts("cuda")["emulator"].skipped  # which only those tests use that are left out
    assert words["cpu"].endswith("-n 16 --dist worksteal")
    assert "--backend" not in words["cpu"]
    assert not parts("cpu")["emulator"].skipped
    monkeypatch.setattr(gpu, "installed", lambda name: name != "xdist")
    assert "-n" not in parts("cuda")["tests"].command


def test_a_short_run_on_a_cpu_is_hurried():
    assert "MOTIONOPS_BENCH_HURRY" in parts("cpu", minutes=3)["benchmarks"].environment
    for device, minutes in (("cpu", 10), ("cuda", 3)):
        assert "MOTIONOPS_BENCH_HURRY" not in parts(device, minutes=minutes)["benchmarks"].environment


def test_results_elsewhere_leave_the_page_alone(tmp_path):
    there = parts("cpu", results=tmp_path)
    assert there["benchmarks"].environment["MOTIONOPS_BENCH_RESULTS"] == str(tmp_path)
    assert there["report"].command[-3:] == [str(tmp_path), "--page", str(tmp_path / "performance.md")]
    assert str(tmp_path) in there["step"].command


@pytest.mark.parametrize("option", ["--kernel-name", "--kernel-regex"])
def test_the_sanitizers_judge_our_kernels_alone(monkeypatch, tmp_path, option):
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(f"#!/bin/sh\necho '  {option} arg     key1=val1,key2=val2,...'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = parts("cuda")
    for name in ("memcheck", "racecheck"):
        assert found[name].command[:5] == [str(tool), "--tool", name, "--error-exitcode", "86"]
        assert f"{option} kns=motionops" in " ".join(found[name].command)
        assert not found[name].missing
    # by its reports, not by a filter
    assert found["initcheck"].command[1:] == ["-m", "benchmarks.initcheck", "--sanitizer", str(tool)]


def test_a_machine_without_the_tools_is_incomplete(monkeypatch):
    monkeypatch.setattr(gpu.shutil, "which", lambda name: None)
    monkeypatch.setattr(gpu, "installed", lambda name: False)
    missing = {
        device: [part.name for part in parts(device).values() if part.missing and not part.skipped]
        for device in ("cuda", "cpu")
    }
    assert missing["cuda"] == ["memcheck", "racecheck", "initcheck", "warm-up", "step", "benchmarks", "report"]
    assert missing["cpu"] == ["step", "benchmarks", "report"]


def test_a_part_that_could_not_be_run_is_no_success(monkeypatch, capsys):
    play(monkeypatch, [script("build", "")], [script("memcheck", "", missing="no compute-sanitizer here")])
    written = []
    monkeypatch.setattr(gpu, "write_proof", lambda results, outcomes, absent, seconds: written.extend(outcomes))
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
        ({"build": "passed", "tests": "failed", "benchmarks": "out of time", "memcheck": "missing"}, 1),
        ({"build": "passed", "benchmarks": "out of time", "memcheck": "missing"}, 3),
        ({"build": "passed", "memcheck": "missing"}, 2),
    ],
)
def test_exit_status(statuses, expected):
    assert gpu.exit_status([Outcome(name, status, 1.0, "") for name, status in statuses.items()]) == expected


def test_what_is_absent_is_named(monkeypatch, capsys):
    play(monkeypatch, [script("build", "")])
    monkeypatch.setattr(gpu, "missing", lambda: ["Inf-CL"])
    monkeypatch.setattr(gpu, "installed", lambda name: name != "nvidia.dali")
    absent = []
    monkeypatch.setattr(gpu, "write_proof", lambda results, outcomes, names, seconds: absent.extend(names))
    assert gpu.main(["--device", "cpu"]) == 0
    assert absent == ["Inf-CL", "nvidia.dali"]


def test_how_parts_end(tmp_path):
    parts = [
        script("good", "print('done')"),
        script("bad", "print('why'); raise SystemExit(3)"),
        script("late", "import time; print('started', flush=True); time.sleep(60)"),
        script("early", "import sys; print('half'); sys.exit(75)"),  # as pytest ends with benchmarks.in_time
        script("unmeant", "", skipped="for a GPU"),
        script("absent", "", missing="no tool here"),
        script("told", "import os; print(os.environ['WORD'])", environment={"WORD": "heard"}),
    ]
    start = time.monotonic()
    outcomes = {outcome.name: outcome for outcome in gpu.run_together(parts, 12.0, tmp_path)}
    assert time.monotonic() - start < 30
    assert list(outcomes) == [part.name for part in parts]
    assert {name: outcome.status for name, outcome in outcomes.items()} == {
        "good": "passed",
        "bad": "failed",
        "late": "out of time",
        "early": "out of time",
        "unmeant": "skipped",
        "absent": "missing",
        "told": "passed",
    }
    assert outcomes["bad"].text == "why"
    assert outcomes["late"].text.startswith("started")
    assert outcomes["late"].text.endswith("KeyboardInterrupt")  # asked to tell what it has, not killed at once
    assert (tmp_path / "bad.log").read_text() == "why\n"
    assert outcomes["absent"].text == "no tool here"
    assert outcomes["told"].text == "heard"


def test_what_a_late_part_started_is_ended_too(tmp_path):
    child = f"import time; time.sleep(4); open({str(tmp_path / 'alive')!r}, 'w')"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert gpu.run_together([script("late", parent)], 2.0, tmp_path)[0].status == "out of time"
    time.sleep(4)
    assert not (tmp_path / "alive").exists()


def test_what_ends_no_sooner_is_killed(tmp_path):
    text = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    start = time.monotonic()
    assert gpu.run_together([script("deaf", text)], 2.0, tmp_path)[0].status == "out of time"
    assert time.monotonic() - start < 30


def test_a_part_knows_its_seconds(tmp_path):
    part = Part("told", [sys.executable, "-c", "import sys; print(sys.argv[1])", "{seconds}"])
    assert gpu.run_together([part], 60.0, tmp_path)[0].text == "52"


def test_the_proof_grows_part_by_part(monkeypatch, tmp_path, capsys):
    proofs = f"import glob; print(open(*glob.glob({str(tmp_path / '*' / 'proof.md')!r})).read())"
    play(monkeypatch, [script("tests", "print('green')")], [script("step", proofs)])
    assert gpu.main(["--device", "cpu", "--results", str(tmp_path), "--logs", str(tmp_path / "logs")]) == 0
    assert "| tests | passed |" in (tmp_path / "logs" / "step.log").read_text()
    (proof,) = tmp_path.glob("*/proof.md")
    assert "| step | passed |" in proof.read_text()


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
    play(monkeypatch, [script("build", "raise SystemExit(1)")], [script("tests", "print('never')")])
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
    assert gpu.main(["--dry-run", "--parts", "tests", "--minutes", "2"]) == 0
    shown = capsys.readouterr().out
    assert "# tests: 120 s\n" in shown
    assert "--in-seconds 112" in shown
    assert "benchmarks.step" not in shown


@pytest.mark.parametrize("name", small_shapes.CASES)
def test_small_shapes(backend, name):
    small_shapes.CASES[name](backend.device)


def test_every_operator_has_a_small_shape():
    operators = {path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("*/bench_*.py")}
    # Those that are no operators: readers of files, and what the host spends on a call.
    assert operators - {"reading", "motion_vectors", "host"} == set(small_shapes.CASES)
