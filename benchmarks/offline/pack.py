"""The project for a GPU machine without a network: python -m benchmarks.offline.pack FOLDER

The committed tree and the operators' library as it is built here, which needs no compiler there, nor this Python or
torch, in one archive; beside it wheels of what may be missing there. There, in bash:

    . FOLDER/unpack.sh                                   # stands in the tree; FOLDER/unpack.sh says what can be chosen
    python3 -m benchmarks.gpu --parts tests,sanitizers,step,benchmarks --minutes 8
"""

from __future__ import annotations

import argparse
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNPACK = Path(__file__).with_name("unpack.sh")
ARCHIVE = "project.tar.xz"
# What a machine with torch often lacks: readers of videos, the trainers' command lines with what they need, peers.
WHEELS = (
    "av>=18,<19",
    "tyro>=1.0",
    "docstring-parser",
    "shtab",
    "typeguard",
    "cut-cross-entropy",
    "liger-kernel",
    "inf-cl",
)
# pip takes the tag of a platform by its letters alone.
PLATFORMS = (*(f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 24, 17)), "manylinux2014_x86_64")


def built_libraries(root: Path) -> list[Path]:
    """What `make build` left in the package."""
    return sorted((root / "motionops").glob("*.so"))


def pack(root: Path, target: Path, libraries: Sequence[Path]) -> None:
    """Write the committed tree and the libraries, at their places, into a compressed archive."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "project.tar"
        subprocess.run(["git", "archive", "HEAD", "-o", str(plain)], cwd=root, check=True)
        with tarfile.open(plain, "a") as archive:
            for library in libraries:
                archive.add(library, library.relative_to(root))
        with open(plain, "rb") as source, lzma.open(target, "wb", preset=6) as sink:
            shutil.copyfileobj(source, sink)


def download(name: str, folder: Path, python: str) -> bool:
    """Fetch the wheel of a package for the Python there; False where there is none."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *platforms]
    command += ["--implementation", "cp", "--python-version", python, "-d", str(folder), name]
    return subprocess.run(command, capture_output=True).returncode == 0


def main(arguments: list[str] | None = None) -> int:
    """Pack; 1 where there is nothing built."""
    parser = argparse.ArgumentParser(description="Pack the project for a GPU machine without a network.")
    parser.add_argument("folder", type=Path, help="gets the archive, the wheels and unpack.sh")
    parser.add_argument("--python", default="3.12", help="version there, for the wheels")
    parser.add_argument("--wheels", nargs="*", default=list(WHEELS), help="packages to take along")
    options = parser.parse_args(arguments)
    libraries = built_libraries(ROOT)
    if not libraries:
        print("no motionops/*.so here: make build first", file=sys.stderr)
        return 1
    (options.folder / "whl").mkdir(parents=True, exist_ok=True)
    absent = [name for name in options.wheels if not download(name, options.folder / "whl", options.python)]
    if absent:
        print(f"no wheel found: {', '.join(absent)}", file=sys.stderr)
    pack(ROOT, options.folder / ARCHIVE, libraries)
    shutil.copy(UNPACK, options.folder)
    size = sum(file.stat().st_size for file in options.folder.rglob("*") if file.is_file())
    print(f"{options.folder}: {size / 2**20:.1f} MiB, with {', '.join(library.name for library in libraries)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
