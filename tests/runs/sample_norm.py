"""BatchNorm replaced by a norm over each sample: what a step computes then has no batch in it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from torch import nn

from motionops.layers import batch_norm
from motionops.models import networks


class SampleNorm(nn.GroupNorm):
    """In place of torch's BatchNorm3d and of ours, which adds a shortcut and has the ReLU."""

    def __init__(self, channels: int, relu: bool = False) -> None:
        super().__init__(1, channels)
        self.relu = relu

    def forward(self, input, residual=None):
        output = super().forward(input)
        if residual is not None:
            output = output + residual
        return output.relu() if self.relu else output


def put_in_place(replace: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let all networks that are built from now on have it."""
    replace(nn, "BatchNorm3d", SampleNorm)
    for name in [module.name for module in iter_modules(networks.__path__)]:
        module = import_module(f"{networks.__name__}.{name}")
        if getattr(module, "BatchNorm3d", None) is batch_norm.BatchNorm3d:
            replace(module, "BatchNorm3d", SampleNorm)
