"""Retrieval at the end of a run, by all of its processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.evaluation.features.feature_cache import default_folder
from motionops.evaluation.features.together import join_processes
from motionops.evaluation.protocols.measure_retrieval import evaluate_retrieval
from motionops.ranks import copy_from_first, from_first
from motionops.training.config import TrainConfig
from motionops.training.data.manifest import TrainingVideos, in_folder


def retrieve(
    config: TrainConfig, backbone: nn.Module, videos: TrainingVideos, device: torch.device, picture: Path
) -> dict[str, Any]:
    """What ``metrics.json`` holds of the test videos' retrieval; nothing where there are none, or in other ranks.

    The features are kept in the cache folder: a run that was killed meanwhile goes on where it was. All processes of
    the run call, where they are a process group; those of torchrun or SLURM that had nothing left to train become one.
    """
    together = join_processes() > 1
    test = in_folder(*from_first((videos.test, videos.folder)), videos.folder)
    if not test:
        return {}
    copy_from_first(backbone)
    return evaluate_retrieval(
        backbone,
        videos.usable,
        test,
        picture=picture,
        **ClipRecipe.of_run(config).settings(),
        workers=config.workers,
        device=device,
        cache=default_folder(),
        over_ranks=together,
        progress=True,
    )
