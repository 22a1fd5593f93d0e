"""Finding the compilers, and saying in one line what is missing.

Environment: ``CXX`` (default g++), ``MOTIONOPS_CUDA`` (0: no CUDA operators, 1: fail where they cannot be built; unset:
build them where nvcc and a CUDA build of torch are found), ``CUDA_HOME``, ``TORCH_CUDA_ARCH_LIST`` (default
"8.0 9.0+PTX").
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

DEFAULT_ARCHITECTURES = "8.0 9.0+PTX"
DEFAULT_NVCC = "/usr/local/cuda/bin/nvcc"


class BuildError(Exception):
    """What the machine lacks, in one line that says how to get it."""


@dataclass(frozen=True)
class Cuda:
    """A CUDA compiler and the parts of its toolkit that the host compiler and the linker need."""

    nvcc: str
    version: str
    include: Path
    runtime: Path  # libcudart_static.a
    architectures: list[str]  # as in TORCH_CUDA_ARCH_LIST

    @property
    def gencode(self) -> list[str]:
        flags = []
        for architecture in self.architectures:
            number = architecture.removesuffix("+PTX").replace(".", "")
            flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
            if architecture.endswith("+PTX"):
                flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
        return flags


def find_cxx() -> tuple[str, str]:
    """Return the C++ compiler's command and its version line. Raises BuildError where there is none."""
    command = os.environ.get("CXX", "g++")
    if shutil.which(shlex.split(command)[0]) is None:
        raise BuildError(f"no C++ compiler: {command} not found. On Debian and Ubuntu: apt-get install g++")
    version = subprocess.run([*shlex.split(command), "--version"], capture_output=True, text=True, check=True)
    return command, version.stdout.splitlines()[0]


def find_cuda(torch_cuda: str | None) -> tuple[Cuda | None, str]:
    """Return the CUDA toolchain to build with, or None, and the reason in words.

    ``torch_cuda`` is ``torch.version.cuda``. Raises BuildError where MOTIONOPS_CUDA=1 asks for what cannot be had.
    """
    wish = os.environ.get("MOTIONOPS_CUDA", "")
    if wish not in ("", "0", "1"):
        raise BuildError(f"MOTIONOPS_CUDA must be 0, 1 or unset, got {wish!r}")
    if wish == "0":
        return None, "MOTIONOPS_CUDA=0"
    if wish == "" and torch_cuda is None:
        return None, "torch is a CPU-only build"
    cuda, reason = _look_for_cuda(torch_cuda if wish == "" else None)
    if cuda is None and wish == "1":
        raise BuildError(f"MOTIONOPS_CUDA=1, but {reason}")
    return cuda, reason


def parse_architectures(text: str) -> list[str]:
    """Split a TORCH_CUDA_ARCH_LIST, "8.0;9.0+PTX" or "8.0 9.0a". Raises BuildError where one is not an architecture."""
    architectures = text.replace(";", " ").split()
    for architecture in architectures:
        if not re.fullmatch(r"\d+\.\d[af]?(\+PTX)?", architecture):
            raise BuildError(
                f"TORCH_CUDA_ARCH_LIST must be a list like '{DEFAULT_ARCHITECTURES}', got {architecture!r} in it"
            )
    return architectures


def _look_for_cuda(torch_cuda: str | None) -> tuple[Cuda | None, str]:
    """``torch_cuda``: the CUDA that must be met, or None: any. A build has a CUDA runtime of its own."""
    nvcc = _find_nvcc()
    if nvcc is None:
        return None, "nvcc not found (looked in CUDA_HOME, PATH, /usr/local/cuda)"
    answer = subprocess.run([nvcc, "--version"], capture_output=True, text=True)
    match = re.search(r"release (\d+\.\d+)", answer.stdout)
    if answer.returncode != 0 or match is None:
        return None, f"{nvcc} --version does not work: {(answer.stderr or answer.stdout).strip()[:200]}"
    version = match.group(1)
    if torch_cuda is not None and version.split(".")[0] != torch_cuda.split(".")[0]:
        # torch shows which CUDA this machine's driver is for; MOTIONOPS_CUDA=1 builds all the same
        return None, f"nvcc is {version}, but torch was built with CUDA {torch_cuda}"
    includes, libraries = _toolkit_folders(nvcc)
    pip_include, pip_library = _pip_folders(version)
    # nvcc's own headers first: they belong to its version
    include = next((p for p in [*includes, *pip_include] if (p / "cuda_runtime_api.h").exists()), None)
    if include is None:
        return None, f"cuda_runtime_api.h was not found beside {nvcc}"
    candidates = [p / "libcudart_static.a" for p in [*libraries, *pip_library]]
    runtime = next((path for path in candidates if path.exists()), None)
    if runtime is None:
        return None, f"libcudart_static.a was not found beside {nvcc}"
    architectures = parse_architectures(os.environ.get("TORCH_CUDA_ARCH_LIST") or DEFAULT_ARCHITECTURES)
    asked = "MOTIONOPS_CUDA=1" if torch_cuda is None else f"torch with CUDA {torch_cuda}"
    return Cuda(nvcc, version, include, runtime, architectures), f"nvcc {version}, {asked}"


def _find_nvcc() -> str | None:
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    candidates = [str(Path(home) / "bin" / "nvcc") for home in homes]
    candidates += ["nvcc", DEFAULT_NVCC]
    return next((found for found in map(shutil.which, candidates) if found), None)


def _toolkit_folders(nvcc: str) -> tuple[list[Path], list[Path]]:
    """Ask nvcc itself where its parts are: the file found on PATH may be a wrapper that lies outside its toolkit."""
    answer = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True)
    text = answer.stderr + answer.stdout
    includes = [Path(path).resolve() for path in re.findall(r'"-I([^"]+)"', text)]
    libraries = [Path(path).resolve() for path in re.findall(r'"-L([^"]+)"', text) if not path.endswith("stubs")]
    top = re.search(r"^#\$ TOP=(.+)$", text, re.MULTILINE)
    if top:
        root = Path(top.group(1).strip()).resolve()
        includes.append(root / "include")
        libraries += [root / "lib64", root / "lib"]
    return includes, libraries


def _pip_folders(version: str) -> tuple[list[Path], list[Path]]:
    """The toolkit parts that came with torch from PyPI: all in one folder, or one folder a part in CUDA 12."""
    nvidia = Path(sysconfig.get_path("purelib")) / "nvidia"
    parts = [nvidia / f"cu{version.split('.')[0]}", nvidia / "cuda_runtime"]
    return [part / "include" for part in parts], [part / "lib" for part in parts]
