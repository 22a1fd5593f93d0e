"""C3D (Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015)."""

from __future__ import annotations

from torch import Tensor, nn

# Channels of the convolutions, and what is pooled behind them: (time, height and width).
CONVOLUTIONS = (("1a", 64), ("2a", 128), ("3a", 256), ("3b", 256), ("4a", 512), ("4b", 512), ("5a", 512), ("5b", 512))
POOLS = {"1a": (1, 2, 2), "2a": (2, 2, 2), "3b": (2, 2, 2), "4b": (2, 2, 2)}


class C3D(nn.Module):
    """`forward(clip [B, 3, T, S, S]) -> [B, 512, T/8, S/16, S/16]`; 27.7 M parameters.

    A `[B, 3, 16, 112, 112]` clip becomes `[B, 512, 2, 7, 7]`: the eight 3 x 3 x 3 convolutions and first four
    max-pools of the paper, without its last pool and its fully connected layers, as self-supervised methods use it
    (they average the map). Each convolution is followed by BatchNorm, which the original network does not have and
    those who train it from scratch add; without it (`batch_norm=False`) the convolutions have biases.
    """

    channels = 512

    def __init__(self, batch_norm: bool = True) -> None:
        super().__init__()
        stages, inputs = [], 3
        for name, outputs in CONVOLUTIONS:
            stages.append((f"conv{name}", nn.Conv3d(inputs, outputs, 3, padding=1, bias=not batch_norm)))
            if batch_norm:
                stages.append((f"bn{name}", nn.BatchNorm3d(outputs)))
            stages.append((f"relu{name}", nn.ReLU(inplace=True)))
            if name in POOLS:
                stages.append((f"pool{name}", nn.MaxPool3d(POOLS[name])))
            inputs = outputs
        self.features = nn.Sequential()
        for name, module in stages:
            self.features.add_module(name, module)
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def last_convolution(self) -> nn.Module:
        """The module whose output is the last convolution's, before BatchNorm."""
        return self.features.conv5b

    def forward(self, clip: Tensor) -> Tensor:
        return self.features(clip)
