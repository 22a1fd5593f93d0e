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
        assert names == ["build", "emulator", "tests", "memcheck", "racecheck", "initcheck", "benchmarks", "report"]


def test_the_gpu_is_required_there_and_only_its_architecture_built():
    build, tests = gpu.plan("cuda", "9.0")[0][0], gpu.plan("cuda", "9.0")[1][0]
    assert build.environment == {"MOTIONOPS_CUDA": "1", "TORCH_CUDA_ARCH_LIST": "9.0"}
    assert tests.environment["MOTIONOPS_REQUIRE"] == "cpu,cuda"


def test_how_parts_end():
    parts = [
        script("good", "print('done')"),
        script("bad", "print('why'); raise SystemExit(3)"),
        script("late", "import time; print('started', flush=True); time.sleep(60)", seconds=3.0),
        script("absent", "", skipped="no tool here"),
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
        "absent": "skipped",
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
