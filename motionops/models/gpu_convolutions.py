"""Convolutions as a GPU's units for 16-bit numbers want them; parameters, names and results stay what they are.

The units take channels by eights. Others go through a copy that fills them up before each convolution, and through
slower kernels: R(2+1)D-18's 45, 230, 460 and 921 channels take 1.3 to 4.2 times the time of 48, 232, 464 and 928 (192
clips on an H200, cuDNN 9.19, bfloat16). So channels that stay between two convolutions are filled up with zeros in the
weights. And the first convolution, of 3 channels with a stride of 2, is none for the units at all (18 of their 700
TFLOP/s): over the four pixels that a stride skips, as channels, it is an ordinary one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from motionops.models.batch_norm import BatchNorm3d

CHANNELS = 8  # that 16 bytes hold
FEW = 4  # channels of a clip


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


class FirstConv3d(FilledConv3d):
    """A convolution of few channels with a stride of 2 in height and width, as one of four times the channels without.

    Pixel (2y + i, 2x + j) becomes channel (i, j) of (y, x); the kernel is rearranged alike.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not is_for_the_units(input) or self.bias is not None:
            return super().forward(input)
        clip = input.to(torch.get_autocast_dtype(input.device.type) if _is_cast(input) else input.dtype)
        # A leading zero makes the padding even, a trailing one the kernel.
        before, sizes, outputs = [], [], []
        for size, kernel, padding in zip(clip.shape[3:], self.kernel_size[1:], self.padding[1:], strict=True):
            before.append(padding % 2)
            sizes.append(kernel + padding % 2 + (kernel + padding % 2) % 2)
            outputs.append((size + 2 * padding - kernel) // 2 + 1)
        margins = []
        for axis in (1, 0):
            left = self.padding[1 + axis] + before[axis]
            margins += [left, 2 * (outputs[axis] - 1) + sizes[axis] - left - clip.shape[3 + axis]]
        padded = functional.pad(clip, margins)
        blocks = padded.unflatten(4, (-1, 2)).unflatten(3, (-1, 2))  # [N, C, T, y, i, x, j]
        few = 4 * self.in_channels
        channels = few + -few % CHANNELS
        together = clip.new_zeros(len(clip), clip.shape[2], blocks.shape[3], blocks.shape[5], channels)
        together[..., :few].unflatten(4, (2, 2, -1)).copy_(blocks.permute(0, 2, 3, 5, 4, 6, 1))

        tall, wide = (
            (first, size - kernel - first)
            for first, size, kernel in zip(before, sizes, self.kernel_size[1:], strict=True)
        )
        weight = functional.pad(self.weight, (*wide, *tall)).unflatten(4, (-1, 2)).unflatten(3, (-1, 2))
        weight = weight.permute(0, 4, 6, 1, 2, 3, 5).flatten(1, 3)  # [O, (i, j, C), kt, ky, kx]
        return functional.conv3d(
            together.permute(0, 4, 1, 2, 3),
            fill(weight, channels - few, self.filled),
            stride=(self.stride[0], 1, 1),
            padding=(self.padding[0], 0, 0),
        )


def is_for_the_units(input: Tensor) -> bool:
    """Whether a convolution of it is one of 16-bit numbers on a GPU."""
    return input.is_cuda and (_is_cast(input) or input.dtype in (torch.bfloat16, torch.float16))


def _is_cast(input: Tensor) -> bool:
    return torch.is_autocast_enabled(input.device.type)


def fill(weight: Tensor, inputs: int, outputs: int) -> Tensor:
    """A convolution's weight with so many channels of zeros more."""
    return functional.pad(weight, (0, 0) * (weight.ndim - 2) + (0, inputs, 0, outputs))


def fit_convolutions(network: nn.Module) -> None:
    """Let a network's first convolution, and those whose channels stay between two of them, be those of this file."""
    for module in network.modules():
        if type(module) is nn.Conv3d and _is_first(module):
            module.__class__ = FirstConv3d
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            parts = [part for part in module if not isinstance(part, nn.Identity)]
            for first, norm, second in zip(parts, parts[1:], parts[2:], strict=False):
                if isinstance(first, nn.Conv3d) and isinstance(norm, BatchNorm3d) and isinstance(second, nn.Conv3d):
                    _fill_between(first, second)


def _is_first(layer: nn.Conv3d) -> bool:
    plain = layer.groups == 1 and layer.dilation == (1, 1, 1) and layer.padding_mode == "zeros"
    return plain and layer.in_channels <= FEW and layer.stride[1:] == (2, 2) and not isinstance(layer.padding, str)


def _fill_between(first: nn.Conv3d, second: nn.Conv3d) -> None:
    if first.out_channels % CHANNELS and first.groups == second.groups == 1:
        for layer in (first, second):
            if type(layer) is nn.Conv3d:
                layer.__class__ = FilledConv3d
        first.filled = -first.out_channels % CHANNELS
