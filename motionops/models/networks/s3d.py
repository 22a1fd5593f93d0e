"""S3D (Xie et al., "Rethinking Spatiotemporal Feature Learning: Speed-Accuracy Trade-offs in Video Classification",
ECCV 2018): torchvision's, without its classifier, so torchvision's weights load by their own names.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.video import s3d as torchvision_s3d

from motionops.models.networks.joined import convolve_joined

BATCHNORM_MOMENTUM = 0.1  # torchvision's 0.001 needs thousands of steps until the statistics are those of the clips


class S3D(nn.Module):
    """`forward(clip [B, 3, T, S, S]) -> [B, 1024, T/8, S/32, S/32]`; 7.9 M parameters.

    A `[B, 3, 16, 224, 224]` clip becomes `[B, 1024, 2, 7, 7]`. Keys are torchvision's (`features.0.0.0.weight`, ...),
    without `classifier`.
    """

    channels = 1024

    def __init__(self) -> None:
        super().__init__()
        self.features = torchvision_s3d(weights=None).features
        self.joined = nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = BATCHNORM_MOMENTUM

    @property
    def last_convolution(self) -> nn.Module:
        """The module whose output are the last convolutions' of the four branches, before BatchNorm."""
        return self.joined

    def forward(self, clip: Tensor) -> Tensor:
        clip = self.features[:-1](clip)
        last = self.features[-1]
        before, units = [], []
        for branch in (last.branch1, last.branch2):
            # 1 x 1 x 1, then the pair of a spatial and a temporal unit
            before.append(branch[1][0](branch[0](clip)))
            units.append(branch[1][1])
        before = [clip, *before, last.branch3[0](clip)]
        units = [last.branch0, *units, last.branch3[1]]
        convolutions, finish = [unit[0] for unit in units], [nn.Sequential(unit[1], unit[2]) for unit in units]
        return convolve_joined(self.joined, before, convolutions, finish)
