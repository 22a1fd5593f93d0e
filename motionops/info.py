"""What this installation is, for a bug report: ``motionops info``, or ``python -m motionops.info``."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata

import torch

import motionops
from motionops.library import BUILD_FACTS, HOW_TO_BUILD

# distribution -> what it is for
OPTIONAL_PARTS = {
    "torchvision": "backbones, weights",
    "av": "reading videos on the CPU",
    "nvidia-dali-cuda130": "reading videos on the GPU",
    "nvidia-dali-cuda120": "reading videos on the GPU",
    "lightning": "trainers",
    "tyro": "trainers' command line",
    "scikit-learn": "linear probe, SVM, t-SNE",
    "safetensors": "weights on disk",
    "matplotlib": "pictures",
    "tensorboard": "logs",
    "cupy-cuda13x": "arrays on the GPU",
    "cupy-cuda12x": "arrays on the GPU",
}


def build_info() -> dict[str, str]:
    """How the operators were built."""
    facts = BUILD_FACTS
    if facts is None:
        return {"motionops": motionops.__version__, "operators": f"not there: {HOW_TO_BUILD}"}
    cuda = f"{facts['cuda_compiler']}, architectures {facts['cuda_architectures']}"
    return {
        "motionops": _installed("motionops") or motionops.__version__,  # a wheel's version says which one it is
        "built with torch": f"{facts['torch']} (runs with 2.11 and newer)",
        "compiler": facts["compiler"],
        "CUDA operators": cuda if facts["has_cuda"] else f"no ({facts['cuda_reason']})",
    }


def machine_info() -> dict[str, str]:
    """What it runs on."""
    facts = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
    }
    if not torch.cuda.is_available():
        facts["GPU"] = "none"
        return facts
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        facts[f"GPU {index}"] = f"{properties.name}, sm_{properties.major}{properties.minor}, {memory:.0f} GiB"
    return facts


def parts_info() -> dict[str, str]:
    """The optional parts and their versions."""
    return {name: _installed(name) or f"- ({purpose})" for name, purpose in OPTIONAL_PARTS.items()}


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def main(arguments: list[str] | None = None) -> int:
    """Print all of it; there are no flags."""
    if arguments:
        print(f"error: motionops info: takes no arguments, got {' '.join(arguments)}", file=sys.stderr)
        return 2
    for title, facts in {"build": build_info(), "machine": machine_info(), "parts": parts_info()}.items():
        print(title)
        for name, value in facts.items():
            print(f"  {name:<22}{value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
