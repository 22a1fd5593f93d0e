"""An archive or a wheel tried as its user would: a fresh environment, an empty folder, a trained and measured backbone.

    python build_support/try_package.py dist/motionops-0.1.0.tar.gz     # built without CUDA's operators
    python build_support/try_package.py dist/motionops-0.1.0+cpu-py3-none-….whl

The package and what builds it are installed into an environment of their own under build/; every other package is that
of the environment that runs this, which spares gigabytes. `--whole` installs those too, from nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TO_BUILD = ("setuptools>=77", "ninja")

EXAMPLE = """\
import torch, motionops
query = torch.nn.functional.normalize(torch.randn(8, 16), dim=1).requires_grad_()
queue = motionops.FeatureQueue(64, 16)
motionops.queue_infonce(query, query.detach(), queue).loss.backward()
print(motionops.__file__, float(query.grad.abs().sum()) > 0)
"""


def make_environment(folder: Path, package: Path, whole: bool) -> Path:
    """An environment with the package in it, and its `bin`."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    name = f"{package}[train]" if whole else str(package)
    if whole:
        subprocess.run([*install, "torch"], check=True)
    else:
        # a path alone: no editable motionops comes with it, as that is a .pth of its own
        (packages,) = folder.glob("lib/python*/site-packages")
        borrowed = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
        install.append("--ignore-installed")
    subprocess.run([*install, *TO_BUILD], check=True)
    own = [] if whole else ["--no-deps"]
    cpu = {**os.environ, "MOTIONOPS_CUDA": "0"}
    subprocess.run([*install, *own, "--no-build-isolation", name], env=cpu, check=True)
    return folder / "bin"


def try_it(bin: Path, folder: Path) -> None:
    """What README says of an installed package, in an empty folder. CalledProcessError where a command fails."""
    folder.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["MOTIONOPS_CACHE"] = str(folder / "cache")

    def run(*command: object) -> str:
        words = [str(word) for word in command]
        print("+", Path(words[0]).name, *(word.partition("\n")[0] for word in words[1:4]), flush=True)
        done = subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout

    where = run(bin / "python", "-c", EXAMPLE)
    if not where.startswith(str(bin.parent)) or not where.endswith("True\n"):
        raise SystemExit(f"error: not the installed package, or no gradient: {where}")
    run(bin / "motionops", "info")
    shapes = "import motionops; motionops.video.moving_shapes.generate('shapes', train=32, test=16, workers=1)"
    run(bin / "python", "-c", shapes)
    lists = ["--list", "shapes/train.txt", "--test-list", "shapes/test.txt"]
    run(bin / "motionops", "train", "fima", "--max-steps", 4, "--data", "shapes", *lists, "--batch-size", 8)
    lists = ["--train", "shapes/train.txt", "--test", "shapes/test.txt"]
    backbone = "runs/fima/backbone.safetensors"
    print(run(bin / "motionops", "evaluate", "retrieval", "--backbone", backbone, "--data", "shapes", *lists))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path, help="a .tar.gz or a .whl")
    parser.add_argument("--whole", action="store_true", help="install torch and the extra `train` too: 5 GB")
    arguments = parser.parse_args()
    package = arguments.package.resolve()
    if not package.is_file():
        print(f"error: there is no file {package}", file=sys.stderr)
        return 1
    home = ROOT / "build" / f"tried-{package.name.removesuffix('.tar.gz').removesuffix('.whl')}"
    began = time.monotonic()
    try:
        bin = make_environment(home, package, arguments.whole)
        installed = time.monotonic()
        try_it(bin, home / "elsewhere")
    except subprocess.CalledProcessError as error:
        command = " ".join(str(word).partition("\n")[0] for word in error.cmd[:5])
        print(f"error: {package.name}: {command} … failed", file=sys.stderr)
        return 1
    seconds = time.monotonic() - installed
    print(f"{package.name}: installed in {installed - began:.0f} s, trained and measured in {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
