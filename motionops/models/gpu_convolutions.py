"""Convolutions as a GPU's units for 16-bit numbers want them; parameters, names and results stay what they are.

The units take channels by eights. Others go through a copy that fills them up before each convolution, and through
slower kernels: R(2+1)D-18's 45, 230, 460 and 921 channels take 1.3 to 4.2 times the time of 48, 232, 464 and 928 (192
clips on an H200, cuDNN 9.19, bfloat16). So channels that stay between two convolutions are filled up with zeros in the
weights. (The first convolution, of 3 channels with a stride of 2, as one of the 12 channels of each four pixels: 7.1 ms
of 240 clips where filling up its 45 outputs alone gives 6.4. So it is left as it is.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from motionops.layers.batch_norm import BatchNorm3d

CHANNELS = 8  # that 16 bytes hold


class FilledConv3d(nn.Conv3d):
    """A convolution that gives, and takes, channels of zeros beside its own.

    Attributes:
        filled: channels that it gives beside its own where its input is for the units.
    """

    filled = 0

    def forward(self, input: Tensor) -> Tensor:
        taken, given = input.shape[1] - self.in_channels, self.filled if is_for_the_units(input) else 0
        if not taken and not given:
            return super().forward(input)
        bias = None if self.bias is None else functional.pad(self.bias, (0, given))
        return self._conv_forward(input, fill(self.weight, taken, given), bias)


def is_for_the_units(input: Tensor) -> bool:
    """Whether a convolution of it is one of 16-bit numbers on a GPU."""
    return input.is_cuda and (torch.is_autocast_enabled("cuda") or input.dtype in (torch.bfloat16, torch.float16))


def fill(weight: Tensor, inputs: int, outputs: int) -> Tensor:
    """A convolution's weight with so many channels of zeros more."""
    return functional.pad(weight, (0, 0) * (weight.ndim - 2) + (0, inputs, 0, outputs))


def fit_convolutions(network: nn.Module) -> None:
    """Let convolutions whose channels stay between two of them be those of this file."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            parts = [part for part in module if not isinstance(part, nn.Identity)]
            for first, norm, second in zip(parts, parts[1:], parts[2:], strict=False):
                if isinstance(first, nn.Conv3d) and isinstance(norm, BatchNorm3d) and isinstance(second, nn.Conv3d):
                    _fill_between(first, second)


def _fill_between(first: nn.Conv3d, second: nn.Conv3d) -> None:
    if first.out_channels % CHANNELS and first.groups == second.groups == 1:
        for layer in (first, second):
            if type(layer) is nn.Conv3d:
                layer.__class__ = FilledConv3d
        first.filled = -first.out_channels % CHANNELS
