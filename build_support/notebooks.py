"""The notebooks of docs/notebooks: written from the Python files beside them, and run: `make notebooks`.

A notebook is a ``.py`` file whose cells begin with ``# %%``, or ``# %% [markdown]`` for text, as editors read them; the
``.ipynb`` is made from it, so that a difference can be read, and has what its cells printed and drew.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "notebooks"
SHOW = """\
from IPython.display import Image, display


def show(file):
    display(Image(filename=str(file)))"""


def cells(source: str) -> list[tuple[str, str]]:
    """(kind, text) of each cell: "code" or "markdown"."""
    parts = re.split(r"^# %%(.*)\n", source, flags=re.MULTILINE)[1:]
    found = []
    for mark, text in zip(parts[::2], parts[1::2], strict=True):
        if "[markdown]" in mark:
            found.append(("markdown", re.sub(r"^# ?", "", text, flags=re.MULTILINE).strip()))
        else:
            found.append(("code", text.strip()))
    return found


def run(file: Path) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Run the cells of a notebook in a folder of its own: kind, text, outputs. A cell that fails raises."""
    names: dict[str, Any] = {"__name__": "__main__"}
    done = []
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for number, (kind, text) in enumerate(cells(file.read_text(encoding="utf-8"))):
                outputs: list[dict[str, Any]] = []
                if kind == "code":
                    printed = io.StringIO()
                    names["show"] = lambda path, outputs=outputs: outputs.append(picture(Path(path)))
                    with contextlib.redirect_stdout(printed):
                        exec(compile(text, f"{file.name}, cell {number}", "exec"), names)
                    if printed.getvalue():
                        lines = printed.getvalue().splitlines(keepends=True)
                        outputs.insert(0, {"name": "stdout", "output_type": "stream", "text": lines})
                done.append((kind, text, outputs))
        finally:
            os.chdir(before)
    return done


def picture(file: Path) -> dict[str, Any]:
    """A picture as a cell's output."""
    kind = {".png": "image/png", ".gif": "image/gif"}[file.suffix]
    data = base64.b64encode(file.read_bytes()).decode()
    return {"data": {kind: data}, "metadata": {}, "output_type": "display_data"}


def notebook(done: list[tuple[str, str, list[dict[str, Any]]]]) -> str:
    """What Jupyter reads (nbformat 4.5); `show` is Jupyter's own there."""
    made = []
    done = [*done[:1], ("code", SHOW, []), *done[1:]]
    for number, (kind, text, outputs) in enumerate(done):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": outputs}
        made.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of notebooks; all of them by default")
    parser.add_argument(
        "--write", action="store_true", help="write the .ipynb files too, with what was printed and drawn"
    )
    arguments = parser.parse_args()
    for file in sorted(FOLDER.glob("*.py")):
        if arguments.names and file.stem not in arguments.names:
            continue
        began = time.monotonic()
        done = run(file)
        if arguments.write:
            file.with_suffix(".ipynb").write_text(notebook(done), encoding="utf-8")
        print(f"{file.stem}: {len(done)} cells in {time.monotonic() - began:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
