"""torchvision's video networks with BatchNorm, sums and ReLU as one operator: same parameters, names and results."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules import batchnorm
from torchvision.models.video.resnet import BasicBlock

from motionops.layers.batch_norm import BatchNorm3d


class ResidualBlock(BasicBlock):
    """torchvision's block; its second BatchNorm adds the shortcut and has the ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        convolution, norm = self.conv2
        return norm(convolution(self.conv1(x)), shortcut)


def join_norms(network: nn.Module) -> None:
    """Let BatchNorm layers take over what follows them: ReLU in a sequence, and a block's sum and ReLU.

    In the place of a ReLU that was taken over there is an Identity, so that the parameters keep their names.
    """
    for module in network.modules():
        if type(module) is batchnorm.BatchNorm3d:
            module.__class__ = BatchNorm3d
            module.relu, module.groups, module.differentiated_twice = False, None, False
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for place in range(len(module) - 1):
                if isinstance(module[place], BatchNorm3d) and type(module[place + 1]) is nn.ReLU:
                    module[place].relu = True
                    module[place + 1] = nn.Identity()
        elif type(module) is BasicBlock and isinstance(module.conv2[1], BatchNorm3d):
            module.__class__ = ResidualBlock
            module.conv2[1].relu = True
