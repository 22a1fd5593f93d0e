"""The parts of a FIMA run that its pictures need, from last.ckpt: the momentum encoder and the motion decoder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from motionops.learning.motion_decoder import MotionDecoder
from motionops.models import build_backbone


class FIMAParts(NamedTuple):
    """In eval mode, on the CPU. ``decoder`` is None where the run had none; ``ratio`` is beta of Eq. 6."""

    backbone: nn.Module
    key_backbone: nn.Module
    decoder: MotionDecoder | None
    ratio: float


def read_fima(file: str | os.PathLike) -> FIMAParts | None:
    """The parts that a checkpoint holds; None where it is no checkpoint of FIMA, or there is none."""
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        state, config = checkpoint["state_dict"], checkpoint["motionops"]["config"]
    except Exception:  # no file, another kind of file
        return None
    if "foreground_ratio" not in config or not _part(state, "key_backbone.network."):
        return None
    backbone, key_backbone = (build_backbone(config["backbone"]) for _ in range(2))
    backbone.load_state_dict(_part(state, "backbone."))
    key_backbone.load_state_dict(_part(state, "key_backbone.network."))
    decoder = _decoder(_part(state, "decoder."), config, backbone)
    return FIMAParts(backbone.eval(), key_backbone.eval(), decoder, config["foreground_ratio"])


def _decoder(state: dict[str, Tensor], config: Mapping[str, Any], backbone: nn.Module) -> MotionDecoder | None:
    if not state:
        return None
    with torch.no_grad():
        clip = torch.zeros(1, 3, config["frames"], config["size"], config["size"])
        height, width = backbone.eval()(clip).shape[3:]
    decoder = MotionDecoder(
        backbone.channels,
        config["decoder_width"],
        config["decoder_depth"],
        config["decoder_heads"],
        config["decoder_feedforward"],
        config["decoder_dropout"],
        positions=height * width,
        class_token="cls_token" in state,
    )
    decoder.load_state_dict(state)
    return decoder.eval()


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
