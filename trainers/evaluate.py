"""Measure a backbone: python trainers/evaluate.py retrieval --backbone FILE --data DIR ..."""

from __future__ import annotations

import glob
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from motionops.commandline import EXIT_USER_ERROR, LARGEST_SEED, existing_folder, lacking, run_commands, writable_folder

if lacking("trainers/evaluate.py", "av", "safetensors", "torchvision", "tyro"):
    sys.exit(EXIT_USER_ERROR)

from motionops.errors import UserError
from motionops.evaluation import check_lists, evaluate_retrieval, format_retrieval
from motionops.evaluation.backbones import named_backbone
from motionops.extras import require
from motionops.video import Video, moving_shapes, read_list


@dataclass
class Retrieval:
    """Nearest neighbours: how often one of the k nearest training videos has the test video's class."""

    backbone: str
    """FILE.safetensors of a trainer; random (also random:NAME, random:FILE); torchvision:NAME with standard weights."""
    data: Path | None = None
    """Folder of the videos; by default that of each list. Without --data, --train and --test: MovingShapes."""
    train: str | None = None
    """List of the gallery, "path label" a line, or a split file; here or in --data. By default train.txt."""
    test: str | None = None
    """List of the queries. By default test.txt."""
    output: Path = Path("runs/retrieval")
    """Folder for metrics.json."""
    clips: int = 10
    """Clips a video, spread evenly; their features are averaged."""
    frames: int | None = None
    """Frames a clip; by default those of the training, where the file says so."""
    stride: int | None = None
    """Source frames from one frame of a clip to the next; default as above."""
    size: int | None = None
    """Height and width of a clip in pixels; default as above."""
    crop: float | None = None
    """Side of the centre crop as a part of the frame's short side; default as above, else 0.875."""
    ks: tuple[int, ...] = (1, 5, 10, 20)
    """Neighbours that count."""
    probe: bool = False
    """Also fit a linear classifier to the same features."""
    still: bool = False
    """Repeat each clip's middle frame: what do the features say without motion?"""
    shuffle_frames: bool = False
    """Put each clip's frames in random order: what do the features say without order?"""
    picture: Path | None = None
    """PNG of some queries and their nearest videos."""
    strict: bool = False
    """Stop at a video that cannot be used, instead of skipping it."""
    batch_size: int = 32
    """Clips in one forward pass."""
    workers: int = 2
    """Processes that decode; 0 decodes in the main one."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    seed: int = 0
    """Seed of an untrained network and of --shuffle-frames."""


def measure_retrieval(config: Retrieval) -> None:
    output = writable_folder(config.output)
    # What comes after the features is checked before them: they may take hours.
    if config.picture is not None:
        writable_folder(config.picture.parent, "--picture")
        require("--picture", "matplotlib")
    if config.probe:
        require("--probe", "sklearn")
    if not 0 <= config.seed <= LARGEST_SEED:
        raise UserError(f"--seed: must be in [0, {LARGEST_SEED}], got {config.seed}")
    device = chosen_device(config.device)
    data = config.data
    if data is None and config.train is None and config.test is None:
        data = moving_shapes.generate()
    elif data is not None:
        existing_folder(data)
    train = listed_videos(config.train or "train.txt", data, "--train")
    test = listed_videos(config.test or "test.txt", data, "--test")
    check_lists(train, test)
    backbone, clip = named_backbone(config.backbone, config.seed)
    given = {name: getattr(config, name) for name in ("frames", "stride", "size", "crop")}
    settings = {**clip, **{name: value for name, value in given.items() if value is not None}}
    metrics = evaluate_retrieval(
        backbone.to(device),
        train,
        test,
        output=output,
        ks=config.ks,
        strict=config.strict,
        probe=config.probe,
        picture=config.picture,
        **settings,
        clips=config.clips,
        still=config.still,
        shuffle_frames=config.shuffle_frames,
        seed=config.seed,
        batch_size=config.batch_size,
        workers=config.workers,
        device=device,
        progress=True,
    )
    print(format_retrieval(metrics))
    print(f"written: {output / 'metrics.json'}")


def listed_videos(file: str, data: Path | None, flag: str) -> list[Video]:
    """Read a list that is given by its path or by its name in the data folder."""

    def is_there(name: str) -> bool:
        pattern = re.sub(":(train|test|val)$", "", name)
        return os.path.exists(pattern) or bool(glob.glob(pattern))

    if data is not None and not is_there(file) and is_there(str(data / file)):
        file = str(data / file)
    try:
        return read_list(file, root=data)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error


def chosen_device(name: str) -> torch.device:
    """The device that a flag names; auto is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device: {name!r} is no device; auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device: {name!r} is no device; auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"--device: {name} is not there; torch finds {torch.cuda.device_count()} GPUs")
    return device


COMMANDS = {"retrieval": (measure_retrieval, Retrieval)}

if __name__ == "__main__":
    sys.exit(run_commands(COMMANDS, "Measure what a backbone has learnt."))
