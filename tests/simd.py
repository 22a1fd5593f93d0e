"""Tests again with other vector instructions: they are chosen once a process, so each has a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

NARROWER = ["baseline", "avx2"]  # the widest is what the tests themselves run with


def run_tests(file: str, chosen: str, simd: str) -> None:
    """Run the tests of `file` that match the expression `chosen` on the CPU with MOTIONOPS_SIMD=`simd`."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, "-k", f"({chosen}) and cpu"]
    environment = {**os.environ, "MOTIONOPS_SIMD": simd}
    root = Path(__file__).resolve().parents[1]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-4000:]
