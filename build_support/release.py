"""What a release hands out, as `make release` makes it: the source archive, the wheels, and the hashes of all.

    python build_support/release.py                     # dist/: archive, both wheels, SHA256SUMS
    python build_support/release.py --only archive      # no wheel: seconds

The list of what a person does before and after is docs/releasing.md.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUMS = "SHA256SUMS"


def make_archive(folder: Path) -> Path:
    """Write the source archive into a folder, and nothing into the source tree. CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory() as facts:  # an egg-info in the tree would make it a package to be found
        command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", facts, "sdist", "--dist-dir", folder]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    (archive,) = folder.glob("*.tar.gz")
    return archive


def write_sums(folder: Path) -> Path:
    """SHA-256 of every archive and wheel of a folder, in the form that `sha256sum --check` reads."""
    files = sorted([*folder.glob("*.tar.gz"), *folder.glob("*.whl")])
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / SUMS).write_text("".join(lines))
    return folder / SUMS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="a folder that is empty or not there")
    parser.add_argument("--only", choices=["archive", "cpu", "cuda"], help="one of the three")
    arguments = parser.parse_args()
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        print(f"error: {folder} is not empty: what is handed out is of one commit", file=sys.stderr)
        return 1
    if arguments.only in (None, "archive"):
        try:
            archive = make_archive(folder)
        except subprocess.CalledProcessError as error:
            print(f"error: the archive could not be made:\n{error.stderr}", file=sys.stderr)
            return 1
        print(f"{archive.name}: {archive.stat().st_size / 2**20:.1f} MiB")
    if arguments.only != "archive":
        wheels = [sys.executable, "build_support/wheels.py", "--output", folder]
        if arguments.only:
            wheels += ["--only", arguments.only]
        if subprocess.run(wheels, cwd=ROOT).returncode != 0:
            return 1
    print(write_sums(folder).read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
