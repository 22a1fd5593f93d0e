"""What a whole training costs on how many GPUs, and what a machine must have for it.

    python -m benchmarks.scale runs/fima/report/profile.json --gpus 1 8 64
    python -m benchmarks.scale --step-seconds 0.1 0.3 1 --batch-size 64

The first counts from a profile that --profile wrote. Every process keeps its batch, so that with more of them an epoch
has fewer steps, each as long as measured: a larger batch over all GPUs, which is another schedule than the profile's.
The second keeps the batch over all GPUs and divides a step of one GPU among them without loss: the least it can take.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """What a step of one process takes and moves.

    Attributes:
        seconds: that it takes when no reader is waited for.
        videos: that are read for it.
        decode_seconds: of a core, for one video.
        file_bytes: of one video's file; decoding begins at its start or at a key frame before the clip, so that nearly
            all of it may be read.
        gradient_bytes: of all trained parameters, in float32.
        shuffled_bytes: clips of the momentum encoders, which shuffled BatchNorm deals out anew to all ranks, and the
            feature maps that come back.
        key_bytes: rows for the queues, which all ranks get.
    """

    seconds: float
    videos: float
    decode_seconds: float
    file_bytes: float
    gradient_bytes: float
    shuffled_bytes: float
    key_bytes: float


@dataclass(frozen=True)
class Machine:
    """What there is: cores a GPU for its readers; bytes/s between a GPU and all others, and of the storage for all."""

    cores: float
    network: float
    storage: float


def hours(seconds: float, videos: int, epochs: int, batch: float, gpus: int) -> float:
    """Hours of `epochs` over `videos`, in steps of `seconds` with `batch` videos a GPU; what fills no step is left."""
    return epochs * int(videos // (batch * gpus)) * seconds / 3600


def cores(step: Step) -> float:
    """Cores a GPU that decode a step's videos while the step before it is computed."""
    return step.videos * step.decode_seconds / step.seconds


def read_bytes(step: Step, gpus: int) -> float:
    """Bytes a second that the storage gives to all GPUs, nothing kept in memory."""
    return gpus * step.videos * step.file_bytes / step.seconds


def exchanged_bytes(step: Step, gpus: int) -> float:
    """Bytes a step that a GPU gets from the others (and sends to them).

    Gradients by a ring, which sums in G - 1 parts and spreads in as many; of the shuffled clips and maps all but the
    G-th part that stays; the others' keys whole.
    """
    others = (gpus - 1) / gpus
    return 2 * others * step.gradient_bytes + others * step.shuffled_bytes + (gpus - 1) * step.key_bytes


def limit(step: Step, machine: Machine, gpus: int) -> str:
    """What is short first when readers, storage and network work while a step is computed."""
    exchanged = exchanged_bytes(step, gpus) / step.seconds
    needs = {
        "decode": (cores(step), machine.cores, "{:.1f} cores a GPU are needed, {:.1f} are there"),
        "storage": (read_bytes(step, gpus) / 1e9, machine.storage / 1e9, "{:.2f} GB/s are needed, {:.2f} are there"),
        "network": (exchanged / 1e9, machine.network / 1e9, "{:.2f} GB/s a GPU are needed, {:.2f} are there"),
    }
    name, (needed, there, text) = max(needs.items(), key=lambda need: need[1][0] / need[1][1])
    if needed > there:
        return f"{name}: {text.format(needed, there)}"
    return f"none; {name}, when a step is {there / needed:.3g} times as fast" if needed else "none"


def parts_table(milliseconds: Mapping[str, float], videos: int, epochs: int, batch: float, gpus: Sequence[int]) -> str:
    """Hours of each part of a step, as Markdown: a column a number of GPUs."""
    rows = [*milliseconds.items(), ("all", sum(milliseconds.values()))]
    lines = ["| part | ms a step | " + " | ".join(f"hours, G = {g}" for g in gpus) + " |"]
    lines.append("|---|---:|" + "---:|" * len(gpus))
    for part, value in rows:
        cells = [f"{hours(value / 1e3, videos, epochs, batch, g):.2f}" for g in gpus]
        lines.append(f"| {part} | {value:.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def limits_table(step: Step, machine: Machine, gpus: Sequence[int]) -> str:
    """What each number of GPUs needs, and what is short first, as Markdown."""
    lines = [
        "| G | videos a step | cores a GPU, decode | GB/s, storage | MB a step and GPU, network | GB/s a GPU, network "
        "| next limit |",
        "|---:|---:|---:|---:|---:|---:|---|",
    ]
    for g in gpus:
        exchanged = exchanged_bytes(step, g)
        numbers = [cores(step), read_bytes(step, g) / 1e9, exchanged / 1e6, exchanged / step.seconds / 1e9]
        cells = [f"{g}", f"{step.videos * g:g}", *(f"{number:.3g}" for number in numbers)]
        lines.append("| " + " | ".join([*cells, limit(step, machine, g)]) + " |")
    return "\n".join(lines)


def schedule_table(seconds: Sequence[float], videos: int, epochs: int, batch: int, gpus: Sequence[int]) -> str:
    """Hours where the batch over all GPUs is given and a step of one GPU is divided among them, as Markdown."""
    lines = ["| s a step on one GPU | " + " | ".join(f"hours, G = {g}" for g in gpus) + " |"]
    lines.append("|---:|" + "---:|" * len(gpus))
    for value in seconds:
        cells = [f"{hours(value / g, videos, epochs, batch, 1):.2f}" for g in gpus]
        lines.append(f"| {value:g} | " + " | ".join(cells) + " |")
    shares = " | ".join(f"{batch / g:g}" for g in gpus)
    return "\n".join([*lines, f"| videos a GPU | {shares} |"])


def step_of(profile: Mapping[str, Any], decode_ms: float | None = None, file_kb: float | None = None) -> Step:
    """What a profile says of a step; a video's decoding and size may be given instead of what was measured."""
    counts, milliseconds = profile["counts"], profile["milliseconds"]
    measured = profile["decoding"]["milliseconds"] / counts["videos"]
    return Step(
        seconds=(sum(milliseconds.values()) - milliseconds["wait"]) / 1e3,
        videos=counts["videos"],
        decode_seconds=(measured if decode_ms is None else decode_ms) / 1e3,
        file_bytes=(counts["file_bytes"] or 0) if file_kb is None else 1e3 * file_kb,
        gradient_bytes=counts["gradient_bytes"],
        shuffled_bytes=counts["key_clip_bytes"] + counts["key_map_bytes"],
        key_bytes=counts["key_bytes"],
    )


def positive(text: str) -> float:
    """A number above 0, as typed."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def count(text: str) -> int:
    """A whole number from 1 on, as typed."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="What a training costs: from a profile.json of --profile, or by time.")
    parser.add_argument("profile", type=Path, nargs="?", help="a profile.json")
    parser.add_argument("--step-seconds", type=positive, nargs="+", help="instead: seconds of a step on one GPU")
    parser.add_argument(
        "--batch-size", type=count, default=64, help="with --step-seconds: videos a step, over all GPUs"
    )
    parser.add_argument("--videos", type=count, default=240_436, help="default: the training videos of Kinetics-400")
    parser.add_argument("--epochs", type=count, default=100)
    parser.add_argument("--gpus", type=count, nargs="+", default=[1, 8, 64])
    parser.add_argument("--decode-ms", type=positive, help="of a core, to decode a video's clips; default: as measured")
    parser.add_argument("--file-kb", type=positive, help="of a video; default: the mean of the profile's files")
    parser.add_argument("--cores-per-gpu", type=positive, default=11, help="that read; default: 11, of 12 a GPU")
    network = "between a GPU and the others, the slowest way; default: 12.5 (100 Gbit/s)"
    parser.add_argument("--network-gbytes", type=positive, default=12.5, help=f"GB/s {network}")
    parser.add_argument("--storage-gbytes", type=positive, default=5, help="GB/s that all GPUs share; default: 5")
    options = parser.parse_args(arguments)
    if (options.profile is None) == (options.step_seconds is None):
        parser.error("a profile.json or --step-seconds, one of them")
    schedule = options.videos, options.epochs
    if options.step_seconds:
        print(schedule_table(options.step_seconds, *schedule, options.batch_size, options.gpus))
        return 0

    try:
        profile = json.loads(options.profile.read_text())
    except (OSError, ValueError) as error:
        parser.error(f"{options.profile}: {error}")
    if "counts" not in profile:
        parser.error(f"{options.profile}: does not count what a step moves; --profile of this version does")
    run, machine, counts = profile["run"], profile["machine"], profile["counts"]
    step = step_of(profile, options.decode_ms, options.file_kb)
    there = Machine(options.cores_per_gpu, 1e9 * options.network_gbytes, 1e9 * options.storage_gbytes)
    gpu = machine.get("GPU 0")
    where = gpu or f"no GPU: {machine['processor']} (not hours of GPUs: one such process stands for each)"
    what = f"{run['backbone']}, {run['frames']} frames of {run['size']}², {counts['videos']:g} videos a process"
    print(f"{what}, {counts['processes']} of them; measured on {where}\n")
    print(parts_table(profile["milliseconds"], *schedule, step.videos, options.gpus), end="\n\n")
    moved = f"{1e3 * step.decode_seconds:.3g} ms of a core and {step.file_bytes / 1e3:.0f} kB a video"
    print(f"Reading takes {moved}; a step without waiting {1e3 * step.seconds:.1f} ms.\n")
    print(limits_table(step, there, options.gpus))
    return 0


if __name__ == "__main__":
    sys.exit(main())
