"""R3D with a spatial max-pool behind the stem, as Controllable Augmentations uses it."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.video.resnet import BasicBlock, BasicStem, Conv3DSimple, VideoResNet


class R3DPool(nn.Module):
    """A 3-D ResNet of basic blocks: `forward(clip [B, 3, T, S, S]) -> [B, 512, T/8, S/32, S/32]`.

    Torchvision's R3D without its classifier and with a spatial 3 x 3 max-pool of stride 2 behind the stem (Hara et al.
    2017, whose R3D-18 Controllable Augmentations names): a 16 x 112 x 112 clip becomes 2 x 4 x 4 cells (Section 4.2).
    The pool has no weights, so torchvision's `r3d_18` loads by its own names.

    Args:
        blocks: basic blocks of the four stages.
    """

    channels = 512

    def __init__(self, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        network = VideoResNet(BasicBlock, [Conv3DSimple] * 4, list(blocks), BasicStem)
        self.stem = network.stem
        self.pool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4

    def forward(self, clip: Tensor) -> Tensor:
        return self.layer4(self.layer3(self.layer2(self.layer1(self.pool(self.stem(clip))))))


class R3D18Pool(R3DPool):
    """R3D-18: two blocks a stage; 33.2 M parameters."""

    def __init__(self) -> None:
        super().__init__((2, 2, 2, 2))


class R3D34Pool(R3DPool):
    """R3D-34: 3, 4, 6 and 3 blocks (Table 1, last row); 63.5 M parameters."""

    def __init__(self) -> None:
        super().__init__((3, 4, 6, 3))
