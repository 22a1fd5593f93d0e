"""What tests/conftest.py does for all tests: it chooses them by their backends, and fails those that leave traces."""

import signal
import subprocess
import sys
from pathlib import Path

import torch

from tests.conftest import changes, shared_state

ROOT = Path(__file__).parents[1]


def test_backends_are_chosen_by_the_fixture():
    """And not by a word in their names."""
    command = [sys.executable, "-m", "pytest", "tests/contrast/test_queue_infonce.py"]
    command += ["tests/operators", "--collect-only", "-q"]
    shown = subprocess.run([*command, "--backend", "cpu,cuda"], cwd=ROOT, capture_output=True, text=True, check=True)
    found = [line.rpartition("::")[2] for line in shown.stdout.splitlines() if "::" in line]
    assert "test_equals_the_cpu[cuda-queue_infonce-plain]" in found
    assert "test_unit_rows_are_units" in found  # of no backend
    assert not any("[emulated" in name for name in found)


def test_what_a_test_leaves_changed_is_named(monkeypatch, tmp_path):
    before = shared_state()
    assert changes(before, shared_state()) == []
    monkeypatch.setenv("MOTIONOPS_CACHE", "elsewhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", print)
    handler = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with torch.no_grad():
        after = shared_state()
    signal.signal(signal.SIGUSR1, handler)
    said = changes(before, after)
    assert [words.split(":")[0] for words in said] == [
        "signal handlers, SIGUSR1",
        "sys.excepthook",
        "the environment, MOTIONOPS_CACHE",
        "the working directory",
        "whether gradients are computed",
    ]
    assert said[2].endswith("is now 'elsewhere'")
