"""What a whole training costs, from the parts of a step that --profile measured.

    python -m benchmarks.scale runs/fima/report/profile.json --videos 240436 --epochs 100 --gpus 1 8 64

The profile is of one process. Processes share the videos and each keeps its batch, so steps become fewer and stay as
long: what the ranks add for one another (gradients, queues) is in a profile of several processes alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def hours(milliseconds: float, videos: int, epochs: int, batch: int, gpus: int) -> float:
    """Hours of `epochs` over `videos`, in steps of `milliseconds` with `batch` videos a GPU."""
    return epochs * videos / (batch * gpus) * milliseconds / 3.6e6


def cores(step_milliseconds: float, decode_milliseconds: float, batch: int) -> float:
    """Cores a GPU that decode fast enough: a step's videos while the step before it is computed."""
    return batch * decode_milliseconds / step_milliseconds


def table(milliseconds: Mapping[str, float], videos: int, epochs: int, batch: int, gpus: Sequence[int]) -> str:
    """Hours of each part of a step, as Markdown: a column a number of GPUs."""
    rows = [*milliseconds.items(), ("all", sum(milliseconds.values()))]
    lines = ["| part | ms a step | " + " | ".join(f"hours, {count} GPU" for count in gpus) + " |"]
    lines.append("|---|---:|" + "---:|" * len(gpus))
    for part, value in rows:
        cells = [f"{hours(value, videos, epochs, batch, count):.1f}" for count in gpus]
        lines.append(f"| {part} | {value:.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What a training costs, from a profile.json of --profile.")
    parser.add_argument("profile", type=Path)
    parser.add_argument("--videos", type=int, default=240_436, help="default: the training videos of Kinetics-400")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    options = parser.parse_args(arguments)
    profile = json.loads(options.profile.read_text())
    run, machine = profile["run"], profile["machine"]
    batch = run["batch_size"] // run["devices"]
    where = machine.get("GPU 0") or f"no GPU: {machine['processor']}"
    what = f"{run['backbone']}, {run['frames']} frames of {run['size']}², {batch} videos a process"
    print(f"{what}; measured on {where}\n")
    print(table(profile["milliseconds"], options.videos, options.epochs, batch, options.gpus))
    return 0


if __name__ == "__main__":
    sys.exit(main())
