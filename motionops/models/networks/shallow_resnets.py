"""The residual networks of Context-Motion Decoupling: R3D-26, R(2+1)D-26, R3D-10 and R2D-10.

Huang et al., "Self-supervised Video Representation Learning by Context and Motion Decoupling", CVPR 2021, names them
after Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018, whose code has a
depth of 26 as two bottleneck blocks in each of the four stages, and 10 as one basic block in each. There is no pool
behind the stem; the second to fourth stage halve time, height and width.
"""

from __future__ import annotations

from torch import Tensor, nn

from motionops.layers.batch_norm import BatchNorm3d

EXPANSION = 4
WIDTHS = (64, 128, 256, 512)


def factored(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """1 x 3 x 3 and 3 x 1 x 1 in the place of 3 x 3 x 3, with as many parameters as that would have."""
    middle = 27 * inputs * outputs // (9 * inputs + 3 * outputs)
    return nn.Sequential(
        nn.Conv3d(inputs, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        nn.Conv3d(middle, outputs, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    )


def full(inputs: int, outputs: int, stride: int) -> nn.Conv3d:
    """3 x 3 x 3."""
    return nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)


def spatial(inputs: int, outputs: int, stride: int) -> nn.Conv3d:
    """1 x 3 x 3: every frame by itself."""
    return nn.Conv3d(inputs, outputs, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)


def shortcut(inputs: int, outputs: int, stride: tuple[int, int, int]) -> nn.Sequential | None:
    """1 x 1 x 1 with the block's stride; None where nothing changes."""
    if stride == (1, 1, 1) and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), BatchNorm3d(outputs))


class BasicBlock(nn.Module):
    """Two convolutions of a kind; the stride is in the first."""

    def __init__(self, inputs: int, outputs: int, stride: int, convolution) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, stride)
        self.bn1 = BatchNorm3d(outputs, relu=True)
        self.conv2 = convolution(outputs, outputs, 1)
        self.bn2 = BatchNorm3d(outputs, relu=True)
        self.downsample = shortcut(inputs, outputs, (1 if convolution is spatial else stride, stride, stride))

    def forward(self, clip: Tensor) -> Tensor:
        skipped = clip if self.downsample is None else self.downsample(clip)
        return self.bn2(self.conv2(self.bn1(self.conv1(clip))), skipped)


class Bottleneck(nn.Module):
    """1 x 1 x 1, a convolution of a kind (where the stride is), 1 x 1 x 1 to four times the inner channels."""

    def __init__(self, inputs: int, inner: int, stride: int, convolution) -> None:
        super().__init__()
        outputs = EXPANSION * inner
        self.conv1 = nn.Conv3d(inputs, inner, 1, bias=False)
        self.bn1 = BatchNorm3d(inner, relu=True)
        self.conv2 = convolution(inner, inner, stride)
        self.bn2 = BatchNorm3d(inner, relu=True)
        self.conv3 = nn.Conv3d(inner, outputs, 1, bias=False)
        self.bn3 = BatchNorm3d(outputs, relu=True)
        self.downsample = shortcut(inputs, outputs, (stride, stride, stride))

    def forward(self, clip: Tensor) -> Tensor:
        skipped = clip if self.downsample is None else self.downsample(clip)
        clip = self.bn2(self.conv2(self.bn1(self.conv1(clip))))
        return self.bn3(self.conv3(clip), skipped)


class _ResNet(nn.Module):
    def __init__(self, stem: list[nn.Module], block, blocks: int, widths: tuple[int, ...], convolution) -> None:
        super().__init__()
        widths = tuple(widths)
        if len(widths) != 4 or min(widths) < 1:
            raise ValueError(f"{type(self).__name__}: widths must be four positive numbers, got {widths}")
        self.stem = nn.Sequential(*stem, nn.BatchNorm3d(widths[0]), nn.ReLU(inplace=True))
        expansion = EXPANSION if block is Bottleneck else 1
        inputs = widths[0]
        for number, width in enumerate(widths):
            stage = []
            for place in range(blocks):
                stage.append(block(inputs, width, 2 if number and not place else 1, convolution))
                inputs = expansion * width
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
        self.channels = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, clip: Tensor) -> Tensor:
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(clip)))))


def _stem(inputs: int, width: int, time: int) -> list[nn.Module]:
    return [nn.Conv3d(inputs, width, (time, 7, 7), (1, 2, 2), (time // 2, 3, 3), bias=False)]


class R3D26(_ResNet):
    """`forward(clip [B, 3, T, S, S]) -> [B, 2048, T/8, S/16, S/16]`; 26.5 M parameters.

    A `[B, 3, 16, 112, 112]` clip becomes `[B, 2048, 2, 7, 7]`. The stem is 3 x 7 x 7 with stride (1, 2, 2).
    """

    def __init__(self) -> None:
        super().__init__(_stem(3, 64, 3), Bottleneck, 2, WIDTHS, full)

    @property
    def last_convolution(self) -> nn.Module:
        """The module whose output is the last convolution's, before BatchNorm."""
        return self.layer4[-1].conv3


class R2Plus1D26(_ResNet):
    """`forward(clip [B, 3, T, S, S]) -> [B, 2048, T/8, S/16, S/16]`; 26.5 M parameters.

    R3D-26 with each 3 x 3 x 3 convolution factored into 1 x 3 x 3 and 3 x 1 x 1, with BatchNorm and ReLU between, and
    as many channels between as keep the number of parameters; the stem is 1 x 7 x 7 to 45 channels and 3 x 1 x 1.
    """

    def __init__(self) -> None:
        middle = [*_stem(3, 45, 1), nn.BatchNorm3d(45), nn.ReLU(inplace=True)]
        last = nn.Conv3d(45, 64, (3, 1, 1), padding=(1, 0, 0), bias=False)
        super().__init__([*middle, last], Bottleneck, 2, WIDTHS, factored)

    @property
    def last_convolution(self) -> nn.Module:
        """The module whose output is the last convolution's, before BatchNorm."""
        return self.layer4[-1].conv3


class R3D10(_ResNet):
    """The M-network: `forward(clip [B, inputs, T, S, S]) -> [B, widths[-1], T/8, S/16, S/16]`; 14.4 M parameters.

    A `[B, 2, 8, 112, 112]` clip of motion vectors becomes `[B, 512, 1, 7, 7]`. The stem is 3 x 7 x 7.

    Args:
        inputs: channels of the clip: 3, or 2 for motion vectors.
        widths: channels of the four stages.
    """

    def __init__(self, inputs: int = 3, widths: tuple[int, int, int, int] = WIDTHS) -> None:
        super().__init__(_stem(inputs, widths[0], 3), BasicBlock, 1, widths, full)

    @property
    def last_convolution(self) -> nn.Module:
        """The module whose output is the last convolution's, before BatchNorm."""
        return self.layer4[-1].conv2


class R2D10(_ResNet):
    """The I-network: `forward(clip [B, inputs, T, S, S]) -> [B, widths[-1], T, S/16, S/16]`; 4.9 M parameters.

    All kernels are 1 in time; a picture is a clip of one frame.

    Args:
        inputs: channels of the pictures.
        widths: channels of the four stages.
    """

    def __init__(self, inputs: int = 3, widths: tuple[int, int, int, int] = WIDTHS) -> None:
        super().__init__(_stem(inputs, widths[0], 1), BasicBlock, 1, widths, spatial)

    @property
    def last_convolution(self) -> nn.Module:
        """The module whose output is the last convolution's, before BatchNorm."""
        return self.layer4[-1].conv2


class R2DSmall(R2D10):
    """R2D-10 with a quarter of the channels, for the demo: `[B, 3, T, S, S] -> [B, 128, T, S/16, S/16]`; 0.3 M."""

    def __init__(self) -> None:
        super().__init__(widths=(16, 32, 64, 128))


class R3D10Eighth(R3D10):
    """R3D-10 with an eighth of the channels, for the demo: `[B, inputs, T, S, S] -> [B, 64, T/8, S/16, S/16]`; 0.2 M.

    Args:
        inputs: channels of the clip: 3, or 2 for motion vectors.
    """

    def __init__(self, inputs: int = 3) -> None:
        super().__init__(inputs, (8, 16, 32, 64))
