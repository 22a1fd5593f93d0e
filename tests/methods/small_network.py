"""A network of a few layers, for tests that look at a method's own part: a real one has hundreds."""

from torch import Tensor, nn

from motionops.layers.batch_norm import BatchNorm3d


class SmallNetwork(nn.Module):
    """T frames of S x S -> 2 x S/4 x S/4 cells of 6 channels; normalised and with a shortcut, and it says no more."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.layer1 = nn.Conv3d(3, 6, 3, stride=(frames // 2, 4, 4), padding=1)
        self.norm1 = BatchNorm3d(6, relu=True)
        self.layer2 = nn.Conv3d(6, 6, 3, padding=1)
        self.norm2 = BatchNorm3d(6, relu=True)

    def forward(self, clips: Tensor) -> Tensor:
        cells = self.norm1(self.layer1(clips))
        return self.norm2(self.layer2(cells), cells)
