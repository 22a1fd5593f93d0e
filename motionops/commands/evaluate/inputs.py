"""From the flags to videos, backbone and settings; every mistake is found here, before hours of work."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from motionops.commandline import existing_folder, writable_folder
from motionops.commands.evaluate.flags import FrozenFlags, Measurement, Sampling
from motionops.errors import UserError
from motionops.evaluation.features.backbones import named_backbone
from motionops.evaluation.features.feature_cache import default_folder, fingerprint
from motionops.evaluation.protocols.holding_out import hold_out
from motionops.evaluation.protocols.papers import clip_settings, protocol_settings
from motionops.evaluation.written.results import read_results
from motionops.flags import check_ranges
from motionops.ranks import environment_rank
from motionops.training.output_folder import choose_folder
from motionops.video import Video, find_videos, moving_shapes, read_list
from motionops.video.lists import check_lists
from motionops.views.even_clips import CENTRE_CROP

SAMPLING = ("clips", "crops", "frames", "stride", "size", "crop", "short", "sampling")
CLIPS, BATCH = 10, 32


class Inputs(NamedTuple):
    """What a measurement works on.

    Attributes:
        train, test: labelled videos.
        backbone: on the CPU.
        fingerprint: names its weights.
        settings: of its clips and, with a protocol, of its training; only what somebody said. The protocol's come
            before the backbone's (but of a network over single frames, which stays one), the flags' before both.
    """

    train: list[Video]
    test: list[Video]
    backbone: nn.Module
    fingerprint: str
    settings: dict[str, Any]


def measurement_inputs(config: Measurement, command: str) -> Inputs:
    """Read lists and backbone, and merge the settings.

    Raises:
        UserError: a number out of its range, an output that cannot be written, no such folder, list or backbone, lists
            that do not go together, a protocol that the paper does not have.
    """
    check_ranges(config)
    stated = protocol_settings(config.protocol, command)
    train, test = labelled_videos(config)
    check_lists(train, test)
    writable_folder(config.output)
    table = results_file(config)
    writable_folder(table.parent, "--results")
    if table.exists():
        read_results(table)  # now, not after hours of work
    backbone, clip = named_backbone(config.backbone, config.seed)
    return Inputs(train, test, backbone, fingerprint(backbone), merged_settings(config, stated, clip))


def given_sampling(config: Sampling) -> dict[str, Any]:
    """What the flags say of the clips."""
    return {name: value for name in SAMPLING if (value := getattr(config, name)) is not None}


def labelled_videos(config: Measurement) -> tuple[list[Video], list[Video]]:
    """Training and test videos: of two lists, of class folders that are split, or of MovingShapes."""
    data = config.data
    if config.split is not None:
        if data is None or config.train or config.test:
            raise UserError("--split: splits the class folders of --data; --train and --test are lists of their own")
        return hold_out(find_videos(existing_folder(data)), config.split, config.seed)
    if data is None and config.train is None and config.test is None:
        data = moving_shapes.generate()
    elif data is not None:
        existing_folder(data)
    for given, flag, name in ((config.train, "--train", "train.txt"), (config.test, "--test", "test.txt")):
        if given is None and not ((data or Path()) / name).exists():
            raise UserError(
                f'{flag}: {data or "this folder"} has no {name}, a line "path label" a video; name a list, or '
                "--split 0.2 holds out a fifth of each class folder of --data"
            )
    train = listed_videos(config.train or "train.txt", data, "--train", config.list_columns)
    test = listed_videos(config.test or "test.txt", data, "--test", config.list_columns)
    return train, test


def merged_settings(config: Measurement, stated: dict[str, Any], of_file: dict[str, Any]) -> dict[str, Any]:
    """The flags' clips over what a protocol states, over what the backbone's file says."""
    return {**clip_settings(stated, of_file), **given_sampling(config)}


def require_frames(inputs: Inputs, backbone: str) -> None:
    """UserError for a network over motion vectors, where one over frames is needed."""
    if "vectors" in inputs.settings:
        raise UserError(f"--backbone: {backbone} takes motion vectors; retrieval, svm and linear --fit features do it")


def frozen_settings(config: FrozenFlags, backbone: nn.Module, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of ``extract_features`` for a command on frozen features; moves the backbone to its device."""
    device = chosen_device(config.device)
    backbone.to(device)
    known = {name: settings[name] for name in (*SAMPLING, "mean", "std", "vectors") if name in settings}
    return {
        **{"clips": default_clips(settings), "crops": 1, "crop": CENTRE_CROP, "short": "skip"},
        **known,
        "batch_size": BATCH if config.batch_size is None else config.batch_size,
        "workers": config.workers,
        "device": device,
        "precision": chosen_precision(config.precision, device),
        "cache": default_folder() if config.cache else None,
        "progress": True,
    }


def default_clips(settings: dict[str, Any]) -> int:
    """Clips a video where nobody said how many: of segments there is only one."""
    return 1 if settings.get("sampling") == "segments" else CLIPS


def with_own_folder(config: Measurement) -> Measurement:
    """A command that trains, with the folder that its run may write in (`choose_folder`)."""
    if environment_rank() and not config.resume:
        return config  # the first process writes
    output = choose_folder(config.output, type(config).output, resume=config.resume, overwrite=config.overwrite)
    return replace(config, output=output)


def results_file(config: Measurement) -> Path:
    return config.results if config.results is not None else config.output.absolute().parent / "results.csv"


def listed_videos(file: str, data: Path | None, flag: str, columns: Sequence[str] = ()) -> list[Video]:
    """Read a list that is given by its path or by its name in the data folder."""

    def is_there(name: str) -> bool:
        pattern = re.sub(":(train|test|val)$", "", name)
        return os.path.exists(pattern) or bool(glob.glob(pattern))

    if data is not None and not is_there(file) and is_there(str(data / file)):
        file = str(data / file)
    try:
        return read_list(file, root=data, columns=columns)
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


def chosen_precision(name: str, device: torch.device) -> str:
    """ "32" or "bf16-mixed"; auto is that on a GPU that computes in it."""
    if name != "auto":
        return name
    return "bf16-mixed" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "32"
