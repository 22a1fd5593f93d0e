"""Networks that predict one feature map from another: of future motion, from a clip (Huang et al., CVPR 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from motionops.models.positions import sinusoidal_positions


class TransformerPredictor(nn.Module):
    """A Transformer encoder-decoder from a clip's map to a map of motion (Context-Motion Decoupling, Section 3.3).

    The source's cells, as a sequence in (t, y, x) order, are taken to `width` by a linear layer, sinusoidal positions
    are added, and the encoder makes the memory of them. The decoder has a learnt query for each cell of the target
    (they begin as the sinusoids of the target's sequence), which attend to each other and to the memory; all cells are
    predicted at once. A linear layer takes `width` to the target's channels. Layers normalise first, with one more
    norm behind the last of each half. The paper gives the numbers of layers and the width; queries, positions, heads,
    feed-forward size and dropout are this library's (the last three those of Vaswani et al. 2017).

    Args:
        channels: C1 of the source map.
        target_channels: C3 of the predicted map.
        source_shape: (T1, H1, W1) of the source map.
        target_shape: (T3, H3, W3) of the predicted map; no relation to the source's is needed.
        width: size of the tokens; even, and a multiple of `heads`.
        encoder_layers, decoder_layers: their numbers; no encoder layer is allowed.
        heads: attention heads.
        feedforward: hidden size of the feed-forward parts (ReLU).
        dropout: probability.

    Raises:
        ValueError: a number that is out of range.
    """

    def __init__(
        self,
        channels: int,
        target_channels: int,
        source_shape: tuple[int, int, int],
        target_shape: tuple[int, int, int],
        *,
        width: int = 512,
        encoder_layers: int = 2,
        decoder_layers: int = 4,
        heads: int = 8,
        feedforward: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        _check_maps("TransformerPredictor", channels, target_channels, source_shape, target_shape)
        for name, value, least in (
            ("encoder_layers", encoder_layers, 0),
            ("decoder_layers", decoder_layers, 1),
            ("heads", heads, 1),
            ("feedforward", feedforward, 1),
        ):
            if value < least:
                raise ValueError(f"TransformerPredictor: {name} must be at least {least}, got {value}")
        if width < 2 or width % 2 or width % heads:
            raise ValueError(f"TransformerPredictor: width must be even and a multiple of heads={heads}, got {width}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"TransformerPredictor: dropout must be in [0, 1), got {dropout}")
        self.source_shape, self.target_shape = tuple(source_shape), tuple(target_shape)
        self.embed = nn.Linear(channels, width)
        layer = {"dropout": dropout, "batch_first": True, "norm_first": True}
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, feedforward, **layer) for _ in range(encoder_layers)
        )
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(
            nn.TransformerDecoderLayer(width, heads, feedforward, **layer) for _ in range(decoder_layers)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.unembed = nn.Linear(width, target_channels)
        self.queries = nn.Parameter(sinusoidal_positions(math.prod(self.target_shape), width))
        self.register_buffer("positions", sinusoidal_positions(math.prod(self.source_shape), width), persistent=False)

    def forward(self, source: Tensor) -> Tensor:
        """`[B, C1, T1, H1, W1] -> [B, C3, T3, H3, W3]`. ValueError for a map of another shape."""
        _check_source("TransformerPredictor", source, self.embed.in_features, self.source_shape)
        memory = self.embed(source.flatten(2).transpose(1, 2))
        memory = memory + self.positions.to(memory.dtype)
        for layer in self.encoder:
            memory = layer(memory)
        memory = self.encoder_norm(memory)
        tokens = self.queries.to(memory.dtype).expand(len(source), -1, -1)
        for layer in self.decoder:
            tokens = layer(tokens, memory)
        predicted = self.unembed(self.decoder_norm(tokens))
        return predicted.transpose(1, 2).unflatten(2, self.target_shape)


class ConvGRUPredictor(nn.Module):
    """A convolutional GRU that reads a clip's map frame by frame and then runs on (Context-Motion Decoupling, Table 1).

    The GRU of Ballas et al. 2016, used as in the dense predictive coding of Han et al. 2019: a 1 x 1 convolution takes
    each frame to `width`, the GRU takes them in; then, for each frame of the target, two 1 x 1 convolutions with a
    ReLU between predict the next embedding from the state, which is the frame's prediction (a last 1 x 1 convolution
    takes it to the target's channels) and the GRU's next input. Where the target's cells are others than the source's,
    predictions are resampled (bilinear).

    Args:
        channels, target_channels, source_shape, target_shape: as of :class:`TransformerPredictor`.
        width: channels of the state.
        kernel: width of the GRU's convolutions, odd.

    Raises:
        ValueError: a number that is out of range.
    """

    def __init__(
        self,
        channels: int,
        target_channels: int,
        source_shape: tuple[int, int, int],
        target_shape: tuple[int, int, int],
        *,
        width: int = 512,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        _check_maps("ConvGRUPredictor", channels, target_channels, source_shape, target_shape)
        if width < 1:
            raise ValueError(f"ConvGRUPredictor: width must be at least 1, got {width}")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"ConvGRUPredictor: kernel must be odd, got {kernel}")
        self.source_shape, self.target_shape = tuple(source_shape), tuple(target_shape)
        # Over space alone, but with an axis of time: parameters of four axes have no channels_last_3d.
        spatial = {"kernel_size": (1, kernel, kernel), "padding": (0, kernel // 2, kernel // 2)}
        self.embed = nn.Conv3d(channels, width, 1)
        self.gates = nn.Conv3d(2 * width, 2 * width, **spatial)
        self.candidate = nn.Conv3d(2 * width, width, **spatial)
        self.predict = nn.Sequential(nn.Conv3d(width, width, 1), nn.ReLU(inplace=True), nn.Conv3d(width, width, 1))
        self.unembed = nn.Conv3d(width, target_channels, 1)
        for convolution in (self.gates, self.candidate):
            nn.init.orthogonal_(convolution.weight)
            nn.init.zeros_(convolution.bias)

    def forward(self, source: Tensor) -> Tensor:
        """`[B, C1, T1, H1, W1] -> [B, C3, T3, H3, W3]`. ValueError for a map of another shape."""
        _check_source("ConvGRUPredictor", source, self.embed.in_channels, self.source_shape)
        state = source.new_zeros(len(source), self.embed.out_channels, 1, *self.source_shape[1:])
        for frame in source.split(1, dim=2):
            state = self.step(self.embed(frame), state)
        frames = []
        for _ in range(self.target_shape[0]):
            frame = self.predict(state)
            frames.append(frame)
            if len(frames) < self.target_shape[0]:
                state = self.step(frame, state)
        predicted = self.unembed(torch.cat(frames, dim=2))
        if predicted.shape[2:] != self.target_shape:
            predicted = functional.interpolate(predicted, self.target_shape, mode="trilinear", align_corners=False)
        return predicted

    def step(self, frame: Tensor, state: Tensor) -> Tensor:
        """The next state: (1 - z) h + z tanh(W [x, r h]), `[B, width, 1, H1, W1]`."""
        update, reset = self.gates(torch.cat([frame, state], dim=1)).sigmoid().chunk(2, dim=1)
        candidate = self.candidate(torch.cat([frame, reset * state], dim=1)).tanh()
        return state + update * (candidate - state)


def _check_maps(name: str, channels: int, target_channels: int, source_shape: tuple, target_shape: tuple) -> None:
    for argument, value in (("channels", channels), ("target_channels", target_channels)):
        if value < 1:
            raise ValueError(f"{name}: {argument} must be at least 1, got {value}")
    for argument, shape in (("source_shape", source_shape), ("target_shape", target_shape)):
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"{name}: {argument} must be three positive numbers (T, H, W), got {shape}")


def _check_source(name: str, source: Tensor, channels: int, shape: tuple[int, int, int]) -> None:
    if source.ndim != 5 or tuple(source.shape[1:]) != (channels, *shape):
        expected = ", ".join(str(size) for size in (channels, *shape))
        raise ValueError(f"{name}: source must be [B, {expected}], got {list(source.shape)}")
