"""How the clips of a measurement are cut out, and where and how exactly it computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from motionops.commands.evaluate.flags import FrozenFlags, Measurement, Sampling, refuse_idle_clips
from motionops.errors import UserError
from motionops.evaluation.features.feature_cache import default_folder
from motionops.evaluation.features.together import join_processes, own_device
from motionops.evaluation.protocols.papers import clip_settings
from motionops.views.even_clips import CENTRE_CROP

SAMPLING = ("clips", "crops", "frames", "stride", "size", "crop", "short", "sampling")
CLIPS, BATCH = 10, 32


def given_sampling(config: Sampling) -> dict[str, Any]:
    """What the flags say of the clips."""
    return {name: value for name in SAMPLING if (value := getattr(config, name)) is not None}


def merged_settings(config: Measurement, stated: dict[str, Any], of_file: dict[str, Any]) -> dict[str, Any]:
    """The flags' clips over what a protocol states, over what the backbone's file says."""
    return {**clip_settings(stated, of_file), **given_sampling(config)}


def frozen_settings(
    config: FrozenFlags, backbone: nn.Module, settings: dict[str, Any], *, together: bool = True
) -> dict[str, Any]:
    """The settings of ``extract_features`` for a command on frozen features; moves the backbone to its device.

    Processes that torchrun or SLURM started are joined, and extract together, unless the command says otherwise.
    """
    refuse_idle_clips(config, settings)
    together = together and join_processes() > 1
    device = chosen_device(config.device)
    backbone.to(device)
    if "vectors" in settings:
        known = {name: settings[name] for name in ("clips", "frames", "size", "crop", "vectors") if name in settings}
        return {"clips": CLIPS, "crop": CENTRE_CROP, **known, "progress": True, "over_ranks": together}
    known = {name: settings[name] for name in (*SAMPLING, "mean", "std") if name in settings}
    return {
        **{"clips": default_clips(settings), "crops": 1, "crop": CENTRE_CROP, "short": "skip"},
        **known,
        "batch_size": BATCH if config.batch_size is None else config.batch_size,
        "workers": config.workers,
        "device": device,
        "precision": chosen_precision(config.precision, device),
        "cache": default_folder() if config.cache else None,
        "progress": True,
        "over_ranks": together,
    }


def default_clips(settings: dict[str, Any]) -> int:
    """Clips a video where nobody said how many: of segments there is only one."""
    return 1 if settings.get("sampling") == "segments" else CLIPS


def chosen_device(name: str) -> torch.device:
    """The device that a flag names; auto is the GPU where there is one."""
    if name == "auto":
        return own_device()
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
