"""Set-up of the development environment, as `make setup` runs it: `.venv` with torch, the extras and the extension.

Needs nothing but Python 3.10 or newer, pip and a C++ compiler. What the machine lacks is said before any download.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

OLDEST_PYTHON = (3, 10)
OLDEST_TORCH = (2, 11)


class SetupError(Exception):
    """What the machine lacks, in one line that says how to get it."""


def run(*command: object) -> None:
    words = [str(word) for word in command]
    print("+", *words, flush=True)
    if subprocess.run(words, cwd=ROOT).returncode != 0:
        raise SetupError(f"{' '.join(words[:6])} … failed; its messages are above")


def works(*command: object) -> bool:
    return subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True).returncode == 0


def make_venv(folder: Path) -> Path:
    """Make a virtual environment with pip, where there is none yet, and return its Python."""
    python = folder / "bin" / "python"
    if works_with_pip(python):
        return python
    # Debian and Ubuntu ship venv without ensurepip unless python3-venv is installed; virtualenv brings its own pip.
    if works(sys.executable, "-c", "import ensurepip"):
        run(sys.executable, "-m", "venv", "--clear", folder)
        return python
    if not works(sys.executable, "-m", "pip", "--version"):
        raise SetupError(
            "this Python has neither ensurepip nor pip. On Debian and Ubuntu: apt-get install python3-venv"
        )
    private = ROOT / "build" / "virtualenv"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", private, "virtualenv")
    shutil.rmtree(folder, ignore_errors=True)
    program = f"import sys; sys.path.insert(0, {str(private)!r}); import virtualenv; virtualenv.cli_run(sys.argv[1:])"
    run(sys.executable, "-c", program, "--quiet", folder)
    return python


def works_with_pip(python: Path) -> bool:
    return python.exists() and works(python, "-m", "pip", "--version")


def has_torch(python: Path) -> bool:
    """Whether a torch that is new enough, and torchvision, are there already: chosen by the user, they stay."""
    check = (
        "import re, torch, torchvision; "
        f"assert tuple(map(int, re.findall(r'\\d+', torch.__version__)[:2])) >= {OLDEST_TORCH}"
    )
    return works(python, "-c", check)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    venv: Path = parser.parse_args().venv
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        print(
            f"error: motionops needs Python 3.10 or newer, this is {found}: make PYTHON=python3.12 …", file=sys.stderr
        )
        return 1
    from build_support.toolchain import BuildError, find_cxx

    try:
        find_cxx()
        python = make_venv(venv)
        if not has_torch(python):
            run(python, "-m", "pip", "install", "torch", "torchvision")
        run(python, "-m", "pip", "install", "--quiet", "setuptools>=77", "ninja", "wheel")
        run(python, "-m", "pip", "install", "--no-build-isolation", "--editable", ".[test]")
        run(python, "-m", "motionops.info")
    except (BuildError, SetupError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
