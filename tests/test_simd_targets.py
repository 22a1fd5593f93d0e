"""Tests again with narrower vector instructions than the machine's: they are chosen once a process.

A machine with AVX2 tries the baseline, one with AVX-512 both. All marked tests share the process.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
MARK = "every_simd_target"
# by what torch says of the machine
NARROWER = {"AVX512": ["baseline", "avx2"], "AVX2": ["baseline"]}.get(torch.backends.cpu.get_cpu_capability(), [])
VECTORS = re.compile(r"simd_targets\.inl|streaming_softmax_cpu\.h")


def test_every_kernel_of_several_targets_is_marked():
    for stem in json.loads((ROOT / "csrc" / "sources.json").read_text())["ops"]:
        family, op = stem.split("/")
        if VECTORS.search((ROOT / "csrc" / f"{stem}_cpu.cpp").read_text()):
            assert MARK in (ROOT / "tests" / family / f"test_{op}.py").read_text(), stem


@pytest.mark.parametrize("target", NARROWER)
def test_narrower_targets(target):
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", MARK, "--backend", "cpu"]
    marked = {path.parent for path in (ROOT / "tests").glob("*/test_*.py") if MARK in path.read_text()}
    environment = {**os.environ, "MOTIONOPS_SIMD": target}
    run = subprocess.run([*command, *sorted(marked)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:]
