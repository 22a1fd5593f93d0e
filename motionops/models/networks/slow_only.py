"""The networks of MoDist: the slow-only R3D-50, R3D-18, and the light 2-D ResNet-50 of its motion pathway.

Sources: Xiao, Tighe, Modolo, "MoDist: Motion Distillation for Self-supervised Video Representation Learning", Table 1;
Feichtenhofer et al., "SlowFast Networks for Video Recognition", ICCV 2019 (slow-only).
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.video import r3d_18 as torchvision_r3d_18

from motionops.layers.batch_norm import BatchNorm3d

BLOCKS = (3, 4, 6, 3)  # of ResNet-50
EXPANSION = 4


class Bottleneck(nn.Module):
    """A residual block T x 1 x 1, 1 x 3 x 3 (where a stride is), 1 x 1 x 1; T is 1 or 3."""

    def __init__(self, inputs: int, inner: int, stride: int, time: int) -> None:
        super().__init__()
        outputs = EXPANSION * inner
        self.conv1 = nn.Conv3d(inputs, inner, (time, 1, 1), padding=(time // 2, 0, 0), bias=False)
        self.bn1 = BatchNorm3d(inner, relu=True)
        self.conv2 = nn.Conv3d(inner, inner, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
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
        clip = self.bn2(self.conv2(self.bn1(self.conv1(clip))))
        return self.bn3(self.conv3(clip), shortcut)


class SlowOnly(nn.Module):
    """ResNet-50 over clips that keeps every frame: `forward(clip [B, 3, T, S, S]) -> [B, 32 * width, T, S/32, S/32]`.

    Args:
        width: channels of the stem, at least 1; 64 in a ResNet-50.
        times: temporal kernels, odd: of the stem, then of the first convolution in the blocks of each of the four
            stages.
    """

    def __init__(self, width: int, times: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"slow_r50: width must be at least 1, got {width}")
        if len(times) != 5 or any(time < 1 or time % 2 == 0 for time in times):
            raise ValueError(f"slow_r50: times must be five odd numbers, got {times}")
        stem, *stages = times
        self.stem = nn.Sequential(
            nn.Conv3d(3, width, (stem, 7, 7), (1, 2, 2), (stem // 2, 3, 3), bias=False),
            BatchNorm3d(width, relu=True),
        )
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        inputs = width
        for number, (blocks, time) in enumerate(zip(BLOCKS, stages, strict=True)):
            inner = width << number
            stage = []
            for block in range(blocks):
                stage.append(Bottleneck(inputs, inner, 2 if number and not block else 1, time))
                inputs = EXPANSION * inner
            self.add_module(f"layer{number + 1}", nn.Sequential(*stage))
        self.channels = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, clip: Tensor) -> Tensor:
        clip = self.pool(self.stem(clip))
        return self.layer4(self.layer3(self.layer2(self.layer1(clip))))


class SlowR50(SlowOnly):
    """MoDist's visual pathway: `[B, 3, 8, 224, 224] -> [B, 2048, 8, 7, 7]`; 31.7 M parameters.

    The stem is 5 x 7 x 7, res2 and res3 have no temporal kernels, the blocks of res4 and res5 begin with 3 x 1 x 1
    (MoDist, Table 1).

    Args:
        stem_frames: temporal kernel of the stem; 5 as in MoDist and CVRL, 1 as in the slow-only network of SlowFast.
    """

    def __init__(self, stem_frames: int = 5) -> None:
        super().__init__(64, (stem_frames, 1, 1, 3, 3))


class R2D50Eighth(SlowOnly):
    """MoDist's motion pathway: `[B, 3, T, S, S] -> [B, 256, T, S/32, S/32]`; 0.4 M parameters.

    A 2-D ResNet-50 with an eighth of the channels, on every frame by itself (all temporal kernels are 1).
    """

    def __init__(self) -> None:
        super().__init__(8, (1, 1, 1, 1, 1))


class R3D18(nn.Module):
    """`forward(clip [B, 3, T, S, S]) -> [B, 512, T/8, S/16, S/16]`; 33.2 M parameters.

    Torchvision's R3D-18 without its classifier: its weights load by their own names (`stem.0.weight`,
    `layer1.0.conv1.0.weight`, ...). MoDist trains it at 128 x 128 (Table 2).
    """

    channels = 512

    def __init__(self) -> None:
        super().__init__()
        network = torchvision_r3d_18(weights=None)
        self.stem = network.stem
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4

    def forward(self, clip: Tensor) -> Tensor:
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(clip)))))
