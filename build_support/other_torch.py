"""The operators' tests on another torch, with the very library that is built here: `make test-torch TORCH=2.11.0`.

One file is to serve every torch from 2.11 on, so nothing is compiled: the environment holds that torch and pytest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = [
    "contrast",
    "flow",
    "geometry",
    "codec",
    "views",
    "test_backward_arguments.py",
    "test_forward_mode.py",
    "test_fake_tensors.py",
]
NEEDED = ["numpy", "hypothesis", "pytest", "pytest-timeout", "pytest-xdist", "torchvision"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("torch", help="a version of torch, such as 2.11.0")
    parser.add_argument("--python", type=Path, help="an environment that has it already; one is made without")
    arguments = parser.parse_args()
    python = arguments.python
    if python is None:
        folder = ROOT / "build" / f"torch-{arguments.torch}"
        python = folder / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"torch=={arguments.torch}", *NEEDED], check=True)
    tests = [str(ROOT / "tests" / name) for name in TESTS]
    chosen = ["-k", "not emulated and not cuda"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if found.split("+")[0] != arguments.torch:
        print(f"error: {python} has torch {found}, not {arguments.torch}", file=sys.stderr)
        return 1
    print(f"torch {found}, {ROOT / 'motionops' / '_operators.so'}", flush=True)
    command = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", *tests, *chosen]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
