"""The hints as a user's type checker reads them: `make types`, on tests/user_script.py and on every public name.

By mypy, and by pyright in the form that pip installs whole (basedpyright, held to pyright's own rules). The second run
takes seconds, the first half a minute.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.util import find_spec

from build_support.reference_page import PACKAGES
from build_support.sources import ROOT

SCRIPT = ROOT / "tests" / "user_script.py"
FOLDER = ROOT / "build" / "types"


def every_name() -> str:
    """A script that imports every public name: what a checker does not find is an error there."""
    lines = ["# ruff: noqa"]
    for package in PACKAGES:
        names = importlib.import_module(package).__all__
        lines += [f"from {package} import {name} as name_{len(lines) + n}" for n, name in enumerate(names)]
    return "\n".join(lines) + "\n"


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    names = FOLDER / "every_name.py"
    names.write_text(every_name())
    rules = FOLDER / "pyrightconfig.json"
    rules.write_text('{"typeCheckingMode": "standard"}\n')
    # A user's settings are strict on the user's own code; what lies in the package is not reported.
    mypy = ["mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(FOLDER / "mypy"), "--config-file="]
    checkers = {
        "mypy": [*mypy, "--python-executable", sys.executable],
        "basedpyright": ["basedpyright", "--project", str(rules), "--pythonpath", sys.executable],
    }
    failed = []
    for name, command in checkers.items():
        if find_spec(name) is None:
            print(f"{name} is not installed: pip install 'motionops[test]'")
            failed.append(name)
            continue
        done = subprocess.run([sys.executable, "-m", *command, str(SCRIPT), str(names)], cwd=ROOT)
        failed += [name] * (done.returncode != 0)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
