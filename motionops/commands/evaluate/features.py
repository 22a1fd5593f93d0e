"""``evaluate.py features``: the frozen features of a set of videos, for whatever else is to be made of them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motionops.commandline import warn, writable_folder
from motionops.commands.evaluate.flags import FrozenFlags, Sampling, refuse_given
from motionops.commands.evaluate.lists import listed_videos
from motionops.commands.evaluate.settings import frozen_settings, given_sampling
from motionops.errors import UserError
from motionops.evaluation.features.backbones import named_backbone
from motionops.evaluation.features.collapse import collapse_warnings
from motionops.evaluation.features.frozen_features import frozen_features
from motionops.evaluation.written.metrics_file import notes
from motionops.flags import check_ranges
from motionops.ranks import world
from motionops.video import find_videos


@dataclass
class Features(FrozenFlags, Sampling):
    """Compute the feature of each video, the mean over its clips, and write them into one file."""

    list: str | None = None
    """List of the videos, as of training; by default all videos of --data."""
    output: Path = Path("runs/features.npz")
    """NumPy file with features [N, C], paths [N], labels [N] ("" without one) and settings (JSON)."""


def write_features(config: Features) -> None:
    check_ranges(config)
    if config.output.suffix != ".npz":
        raise UserError(f"--output: must end in .npz, got {config.output}")
    if config.list is not None:
        videos = listed_videos(config.list, config.data, "--list", config.list_columns)
    elif config.data is not None:
        refuse_given(config, ("list_columns",), "of --list")
        videos = find_videos(config.data)
    else:
        raise UserError("name the videos with --data or --list")
    backbone, clip = named_backbone(config.backbone, config.seed)
    settings = frozen_settings(config, backbone, {**clip, **given_sampling(config)})
    writable_folder(config.output.parent)
    found = frozen_features(backbone, videos, strict=config.strict, **settings)
    if world()[0]:
        return
    for line in (*(f"skipped {video}" for video in found.skipped), *collapse_warnings(found.features)):
        warn(line)
    beside = config.output.with_name(f".{config.output.name}.part.npz")
    said = {"backbone": config.backbone, **notes([], [], settings)["settings"]}
    np.savez(
        beside,
        features=found.features.numpy(),
        paths=np.array([video.path for video in found.videos]),
        labels=np.array([video.label or "" for video in found.videos]),
        settings=json.dumps(said),
    )
    os.replace(beside, config.output)
    print(f"written: {config.output} (features {list(found.features.shape)}, {len(found.skipped)} skipped)")
