"""R(2+1)D-50 as MCL trains it, and its 2-D counterpart.

ResNet-50 whose 3 x 3 convolutions are each followed by a 3 x 1 x 1 one (P3D-A: Qiu, Yao, Mei, "Learning Spatio-Temporal
Representation with Pseudo-3D Residual Networks", ICCV 2017). No BatchNorm stands between the two, so with the temporal
one at identity the network computes on every frame what the 2-D network does. Parameter names are torchvision's of
`resnet50`, and `conv2_t` for the temporal convolutions.
"""

from __future__ import annotations

from torch import Tensor, nn

from motionops.layers.batch_norm import BatchNorm3d

BLOCKS = (3, 4, 6, 3)
EXPANSION = 4


class Bottleneck(nn.Module):
    """1 x 1 x 1, 1 x 3 x 3 (where the stride is) and, with `temporal`, 3 x 1 x 1, then 1 x 1 x 1."""

    def __init__(self, inputs: int, inner: int, stride: int, temporal: bool) -> None:
        super().__init__()
        outputs = EXPANSION * inner
        self.conv1 = nn.Conv3d(inputs, inner, 1, bias=False)
        self.bn1 = BatchNorm3d(inner, relu=True)
        self.conv2 = nn.Conv3d(inner, inner, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.conv2_t = nn.Conv3d(inner, inner, (3, 1, 1), padding=(1, 0, 0), bias=False) if temporal else nn.Identity()
        self.bn2 = BatchNorm3d(inner, relu=True)
        self.conv3 = nn.Conv3d(inner, outputs, 1, bias=False)
        self.bn3 = BatchNorm3d(outputs, relu=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv3d(inputs, outputs, 1, (1, stride, stride), bias=False), BatchNorm3d(outputs)
            )

    def forward(self, clip: Tensor) -> Tensor:
        shortcut = clip if self.downsample is None else self.downsample(clip)
        clip = self.bn1(self.conv1(clip))
        clip = self.bn2(self.conv2_t(self.conv2(clip)))
        return self.bn3(self.conv3(clip), shortcut)


class _ResNet50(nn.Module):
    channels = 2048

    def __init__(self, stem_frames: int, temporal: bool) -> None:
        super().__init__()
        time = (stem_frames, 2, 2)
        self.conv1 = nn.Conv3d(3, 64, (stem_frames, 7, 7), time, (0, 3, 3), bias=False)
        self.bn1 = BatchNorm3d(64, relu=True)
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        inputs = 64
        for number, blocks in enumerate(BLOCKS):
            inner = 64 << number
            stage = []
            for block in range(blocks):
                stage.append(Bottleneck(inputs, inner, 2 if number and not block else 1, temporal))
                inputs = EXPANSION * inner
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def last_convolution(self) -> nn.Module:
        """The module whose output is the last convolution's, before BatchNorm."""
        return self.layer4[-1].conv3

    def forward(self, clip: Tensor) -> Tensor:
        clip = self.pool(self.bn1(self.conv1(clip)))
        return self.layer4(self.layer3(self.layer2(self.layer1(clip))))


class R2Plus1D50(_ResNet50):
    """`forward(clip [B, 3, T, S, S]) -> [B, 2048, T/4, S/32, S/32]`; 27.3 M parameters.

    A `[B, 3, 16, 224, 224]` clip becomes `[B, 2048, 4, 7, 7]`: the first convolution is 4 x 7 x 7 with stride (4, 2, 2)
    and without padding in time, so a clip has at least 4 frames, and what 4 does not divide is left over.
    """

    def __init__(self) -> None:
        super().__init__(stem_frames=4, temporal=True)


class R2D50(_ResNet50):
    """`forward(clip [B, 3, T, S, S]) -> [B, 2048, T, S/32, S/32]`; 23.5 M parameters: ResNet-50 on each frame.

    All kernels are 1 in time: a clip's frames pass independently of each other, and T is kept (BatchNorm's statistics
    are over all frames). MCL feeds it single frames (T = 1).
    """

    def __init__(self) -> None:
        super().__init__(stem_frames=1, temporal=False)
