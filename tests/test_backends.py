"""--backend chooses tests by the backend that they run on, not by a word in their names."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_backends_are_chosen_by_the_fixture():
    command = [sys.executable, "-m", "pytest", "tests/contrast/test_queue_infonce.py"]
    command += ["tests/operators", "--collect-only", "-q"]
    shown = subprocess.run([*command, "--backend", "cpu,cuda"], cwd=ROOT, capture_output=True, text=True, check=True)
    found = [line.rpartition("::")[2] for line in shown.stdout.splitlines() if "::" in line]
    assert "test_equals_the_cpu[cuda-queue_infonce-plain]" in found
    assert "test_unit_rows_are_units" in found  # of no backend
    assert not any("[emulated" in name for name in found)
