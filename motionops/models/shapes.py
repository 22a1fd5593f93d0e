"""The shape of a network's feature map."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from motionops.errors import UserError
from motionops.models.backbones import build_backbone


def feature_shape(network: nn.Module, frames: int, size: int, inputs: int = 3) -> tuple[int, int, int, int]:
    """(C, T', H', W') of a network's map of a clip `[inputs, frames, size, size]`. Its mode and statistics stay."""
    parameter = next(network.parameters(), None)
    device = None if parameter is None else parameter.device
    was_training = network.training
    try:
        with torch.no_grad():
            return tuple(network.eval()(torch.zeros(1, inputs, frames, size, size, device=device)).shape[1:])
    finally:
        network.train(was_training)


@cache
def named_map_shape(name: str, frames: int, size: int, inputs: int = 3, flag: str = "--frames") -> tuple[int, int, int]:
    """(T', H', W') of the map of a backbone that `build_backbone` knows, without computing it.

    Args:
        name, frames, size, inputs: of the backbone, and of its clips `[inputs, frames, size, size]`.
        flag: that says how many frames a clip has.

    Raises:
        UserError: it cannot take such clips.
    """
    with torch.device("meta"):
        network = build_backbone(name, **({} if inputs == 3 else {"inputs": inputs})).eval()
        try:
            return tuple(network(torch.empty(1, inputs, frames, size, size)).shape[2:])
        except RuntimeError as error:
            raise UserError(f"{name} cannot take clips of {flag} {frames} at --size {size}") from error
