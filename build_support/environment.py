"""Set-up of an environment: `.venv` with torch, an extra and the extension, in the versions of versions.txt.

`make setup` installs the extra `test`, `make demo` the extra `train` alone; with --tools only what builds C++ is put
there, which is there in seconds. Needs nothing but Python 3.10 or newer, pip and a C++ compiler. What the machine lacks
is said before any download.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

TOOLS = ("setuptools>=77", "ninja", "wheel", "cmake>=3.25")
OLDEST_PYTHON = (3, 10)
# The versions that CI has, one a line, as `make lock` writes them; NumPy's and SciPy's are for Python 3.11 and newer.
VERSIONS = ROOT / "build_support" / "versions.txt"
LOCKED_PYTHON = (3, 11)


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


def oldest_torch() -> tuple[int, ...]:
    """As pyproject.toml has it."""
    return tuple(map(int, re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1].split(".")))


def has_torch(python: Path) -> bool:
    """Whether a torch that is new enough, and torchvision, are there already: chosen by the user, they stay."""
    check = (
        "import re, torch, torchvision; "
        f"assert tuple(map(int, re.findall(r'\\d+', torch.__version__)[:2])) >= {oldest_torch()}"
    )
    return works(python, "-c", check)


def constraints(folder: Path, torch_stays: bool, latest: bool) -> list[str]:
    """What tells pip the versions: those of versions.txt, but for a torch that the user has chosen and what is its."""
    if latest or sys.version_info < LOCKED_PYTHON:
        print("+ the newest versions: build_support/versions.txt is not used", flush=True)
        return []
    lines = VERSIONS.read_text().splitlines()
    if torch_stays:
        lines = [line for line in lines if not re.match(r"(torch|torchvision|triton|nvidia-(?!dali)|cuda-)", line)]
    file = folder / "versions.txt"
    file.write_text("\n".join(lines) + "\n")
    return ["--constraint", str(file)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--tools", action="store_true", help="only cmake and ninja")
    parser.add_argument("--extra", default="test", help="of pyproject.toml: test, or train for the demo")
    parser.add_argument("--latest", action="store_true", help="the newest versions, and not those of versions.txt")
    arguments = parser.parse_args()
    venv: Path = arguments.venv
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
        install = (python, "-m", "pip", "install")
        torch_stays = has_torch(python)
        versions = constraints(venv, torch_stays, arguments.latest)
        run(*install, *versions, "--quiet", *TOOLS)
        if arguments.tools:
            return 0
        if not torch_stays:
            run(*install, *versions, "torch", "torchvision")
        # compat: a plain path, which type checkers and editors can follow
        editable = ("--config-settings", "editable_mode=compat", "--editable", f".[{arguments.extra}]")
        run(*install, *versions, "--no-build-isolation", *editable)
        run(python, "-m", "motionops.info")
    except (BuildError, SetupError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
