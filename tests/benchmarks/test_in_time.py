"""Runs with little time: failures at once, no further test after the last second, and what was not begun is counted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.in_time import DEADLINE, OUT_OF_TIME

ROOT = Path(__file__).parents[2]
THE_LAST_SECOND = f"os.environ[{DEADLINE!r}] = '0'"
SLOW = """
import os, time
def test_first():
    pass
def test_second():
    {second}
def test_third():
    time.sleep(30)
    open(__file__ + ".slept", "w").close()
def test_fourth():
    time.sleep(30)
"""


def environment():
    """Not that of a process of pytest-xdist, in which this test may run: such a one leaves telling to another."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}


def run(folder, second, *more):
    (folder / "test_slow.py").write_text(SLOW.format(second=second))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.in_time", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "no:randomly", "--rootdir", folder, str(folder), *more],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("processes", [[], ["-n", "1"]], ids=["one process", "xdist"])
def test_no_test_begins_after_the_last_second(tmp_path, processes):
    code, shown = run(tmp_path, THE_LAST_SECOND, "--in-seconds", "600", *processes)
    assert code == OUT_OF_TIME
    assert "2 passed" in shown
    assert "out of time: 2 not begun" in shown


def test_a_failure_is_told_at_once(tmp_path):
    process = [sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.in_time", "-p", "no:cacheprovider"]
    (tmp_path / "test_slow.py").write_text(SLOW.format(second="assert 1 == 2, 'told'"))
    with subprocess.Popen(
        [*process, "--rootdir", tmp_path, str(tmp_path)], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as running:
        told = next(line for line in running.stdout if line.startswith("E "))
        running.kill()
    assert "told" in told
    assert not (tmp_path / "test_slow.py.slept").exists()  # the third sleeps


def test_a_failure_is_a_failure(tmp_path):
    code, shown = run(tmp_path, f"{THE_LAST_SECOND}; assert False", "--in-seconds", "600")
    assert code == 1
    assert "1 failed" in shown
