"""Residual networks over space and time: R(2+1)D-18, and the small R3D of the demo.

R(2+1)D-18 (Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018) is
torchvision's, without its classifier, so torchvision's weights load by their own names.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.video import r2plus1d_18 as torchvision_r2plus1d_18
from torchvision.models.video.resnet import BasicBlock, Conv3DSimple


class R2Plus1D18(nn.Module):
    """`forward(clip [B, 3, T, S, S]) -> [B, 512, T/8, S/16, S/16]`; 31.3 M parameters.

    A `[B, 3, 16, 112, 112]` clip becomes `[B, 512, 2, 7, 7]`. Keys are torchvision's (`stem.0.weight`,
    `layer1.0.conv1.0.0.weight`, ...), without `fc`.
    """

    channels = 512

    def __init__(self) -> None:
        super().__init__()
        network = torchvision_r2plus1d_18(weights=None)
        self.stem = network.stem
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4

    @property
    def last_convolution(self) -> nn.Module:
        """The module whose output is the last convolution's, before BatchNorm."""
        return self.layer4[-1].conv2[0][-1]

    def forward(self, clip: Tensor) -> Tensor:
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(clip)))))


class R3DSmall(nn.Module):
    """A small R3D for the demo: `forward(clip [B, inputs, T, S, S]) -> [B, widths[-1], T/4, S/8, S/8]`.

    One basic block a stage.
    With the default widths an 8 x 32 x 32 clip becomes a `[B, 128, 2, 4, 4]` map. The stem is 3 x 5 x 5 with stride
    (1, 2, 2); the second and third stages halve time and space; the last keeps them, so that a map of 4 x 4 cells is
    left in which a pixel-level loss has something to locate.

    Args:
        widths: channels of the four stages.
        inputs: channels of the clip: 3, or 2 for motion vectors.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (16, 32, 64, 128), inputs: int = 3) -> None:
        super().__init__()
        widths = tuple(widths)
        if len(widths) != 4 or min(widths) < 1:
            raise ValueError(f"r3d_small: widths must be four positive numbers, got {widths}")
        self.channels = widths[-1]
        self.stem = nn.Sequential(
            nn.Conv3d(inputs, widths[0], (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), bias=False),
            nn.BatchNorm3d(widths[0]),
            nn.ReLU(inplace=True),
        )
        inputs = (widths[0], *widths[:-1])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _block(i, o, stride) for i, o, stride in zip(inputs, widths, (1, 2, 2, 1), strict=True)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def last_convolution(self) -> nn.Module:
        """The module whose output is the last convolution's, before BatchNorm."""
        return self.layer4.conv2[0]

    def forward(self, clip: Tensor) -> Tensor:
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(clip)))))


def _block(inputs: int, outputs: int, stride: int) -> BasicBlock:
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv3d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm3d(outputs)
        )
    return BasicBlock(inputs, outputs, Conv3DSimple, stride, shortcut)
