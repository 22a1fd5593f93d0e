"""I3D (Inflated Inception v1; Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017) and its 2-D origin.

The convolutional part alone: a `[B, 3, 16, 224, 224]` clip becomes a `[B, 1024, 2, 7, 7]` feature map; 12.3 M
parameters. Padding is TensorFlow's "SAME" (the odd cell goes behind), written out as constant padding, because weights
trained with it shift by half a cell under symmetric padding. Parameter names are those under which converted and
FIMA-trained weights are distributed (`conv3d_1a_7x7.conv3d.weight`, `mixed_3b.branch_1.0.batch3d.bias`, ...).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from motionops.layers.batch_norm import BatchNorm3d
from motionops.models.networks.joined import convolve_joined

# Output channels of each Inception block: 1x1; 1x1 then 3x3; 1x1 then 3x3; 1x1 behind the pooling.
MIXED = {
    "mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
LAST_MIXED = "mixed_5c"


def same_padding(kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> tuple[int, ...]:
    """TensorFlow's "SAME" padding where the stride divides the size, in `torch.nn.functional.pad`'s order."""
    padding: list[int] = []
    for size, step in zip(reversed(kernel), reversed(stride), strict=True):
        total = max(size - step, 0)
        padding += [total // 2, total - total // 2]
    return tuple(padding)


class Unit(nn.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int, int] = (1, 1, 1),
        stride: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        padding = same_padding(kernel, stride)
        symmetric = padding[::2] == padding[1::2]
        # Symmetric padding goes into the convolution itself: no padded copy of its input is made.
        self.padding = None if symmetric else padding
        inner = tuple(reversed(padding[::2])) if symmetric else (0, 0, 0)
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, inner, bias=False)
        self.batch3d = BatchNorm3d(outputs, relu=True)

    def forward(self, clip: Tensor) -> Tensor:
        return self.finish(self.convolve(clip))

    def convolve(self, clip: Tensor) -> Tensor:
        if self.padding is not None:
            clip = functional.pad(clip, self.padding)
        return self.conv3d(clip)

    def finish(self, convolved: Tensor) -> Tensor:
        return self.batch3d(convolved)


class SamePool(nn.Module):
    """Max-pooling with "SAME" padding by zeros (its inputs come out of a ReLU, so zero never wins wrongly)."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        padding = same_padding(kernel, stride)
        symmetric = padding[::2] == padding[1::2]
        # The pooling's own padding is minus infinity, which inputs of at least zero cannot tell from zero.
        self.padding = None if symmetric else padding
        self.inner = tuple(reversed(padding[::2])) if symmetric else (0, 0, 0)

    def forward(self, clip: Tensor) -> Tensor:
        if self.padding is not None:
            clip = functional.pad(clip, self.padding)
        return functional.max_pool3d(clip, self.kernel, self.stride, self.inner, ceil_mode=True)


class Mixed(nn.Module):
    """An Inception block: four branches, concatenated over channels."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int, int, int], time: int = 3) -> None:
        super().__init__()
        a, b_in, b, c_in, c, d = widths
        three = (time, 3, 3)
        self.branch_0 = Unit(inputs, a)
        self.branch_1 = nn.Sequential(Unit(inputs, b_in), Unit(b_in, b, three))
        self.branch_2 = nn.Sequential(Unit(inputs, c_in), Unit(c_in, c, three))
        self.branch_3 = nn.Sequential(SamePool(three, (1, 1, 1)), Unit(inputs, d))

    def forward(self, clip: Tensor) -> Tensor:
        return torch.cat([self.branch_0(clip), self.branch_1(clip), self.branch_2(clip), self.branch_3(clip)], dim=1)


class LastMixed(Mixed):
    """The last block: the outputs of its last convolutions are one tensor, that of `joined`, before BatchNorm."""

    def __init__(self, *arguments, **named) -> None:
        super().__init__(*arguments, **named)
        self.joined = nn.Identity()

    def forward(self, clip: Tensor) -> Tensor:
        inputs = [clip, self.branch_1[0](clip), self.branch_2[0](clip), self.branch_3[0](clip)]
        units = [self.branch_0, self.branch_1[1], self.branch_2[1], self.branch_3[1]]
        return convolve_joined(self.joined, inputs, [unit.convolve for unit in units], [unit.finish for unit in units])


class _Inception(nn.Module):
    channels = 1024

    def __init__(self, temporal: bool) -> None:
        super().__init__()

        def over_time(size: int) -> int:
            return size if temporal else 1

        def cube(size: int) -> tuple[int, int, int]:
            return over_time(size), size, size

        self.conv3d_1a_7x7 = Unit(3, 64, cube(7), cube(2))
        self.maxPool3d_2a_3x3 = SamePool((1, 3, 3), (1, 2, 2))
        self.conv3d_2b_1x1 = Unit(64, 64)
        self.conv3d_2c_3x3 = Unit(64, 192, cube(3))
        self.maxPool3d_3a_3x3 = SamePool((1, 3, 3), (1, 2, 2))
        self.maxPool3d_4a_3x3 = SamePool(cube(3), cube(2))
        self.maxPool3d_5a_2x2 = SamePool(cube(2), cube(2))
        for name, (inputs, widths) in MIXED.items():
            block = LastMixed if name == LAST_MIXED else Mixed
            self.add_module(name, block(inputs, widths, over_time(3)))

    @property
    def last_convolution(self) -> nn.Module:
        """The module whose output are the last convolutions' of the four branches, before BatchNorm."""
        return getattr(self, LAST_MIXED).joined

    def forward(self, clip: Tensor) -> Tensor:
        clip = self.maxPool3d_2a_3x3(self.conv3d_1a_7x7(clip))
        clip = self.maxPool3d_3a_3x3(self.conv3d_2c_3x3(self.conv3d_2b_1x1(clip)))
        clip = self.maxPool3d_4a_3x3(self.mixed_3c(self.mixed_3b(clip)))
        for name in ("mixed_4b", "mixed_4c", "mixed_4d", "mixed_4e", "mixed_4f"):
            clip = getattr(self, name)(clip)
        return self.mixed_5c(self.mixed_5b(self.maxPool3d_5a_2x2(clip)))


class I3D(_Inception):
    """`forward(clip [B, 3, T, S, S]) -> [B, 1024, T/8, S/32, S/32]`, rounded up.

    Source: Carreira and Zisserman 2017, the RGB stream without its classifier; the encoder of FIMA (its Section 4.1).
    """

    def __init__(self) -> None:
        super().__init__(temporal=True)


class I2D(_Inception):
    """`forward(clip [B, 3, T, S, S]) -> [B, 1024, T, S/32, S/32]`: Inception v1 with BatchNorm; 5.6 M parameters.

    All kernels are 1 in time: a clip's frames pass independently of each other, and T is kept (BatchNorm's statistics
    are over all frames). MCL feeds it single frames (T = 1).
    """

    def __init__(self) -> None:
        super().__init__(temporal=False)
