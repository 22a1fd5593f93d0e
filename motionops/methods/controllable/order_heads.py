"""Heads that see whether the clips of a video are in order (Controllable Augmentations, Section 4.4 and Table 6)."""

from __future__ import annotations

from itertools import combinations, permutations

import torch
from torch import Tensor, nn
from torch.nn import functional


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs))


class GRUOrder(nn.Module):
    """A GRU reads the clips; the score is the cosine of its last state and the whole video's feature.

    Args:
        channels: C.
        temperature: what the cosine is divided by. 1 is the paper's text.
    """

    def __init__(self, channels: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.gru = nn.GRU(channels, channels, batch_first=True)
        self.temperature = temperature

    def forward(self, clips: Tensor, video: Tensor) -> Tensor:
        """Clips in some order `[B, K, C]`, the video `[B, C]` -> scores `[B]`."""
        _, state = self.gru(clips)
        return functional.cosine_similarity(state[0], video, dim=1) / self.temperature


class MLPOrder(nn.Module):
    """A two-layer MLP over the clips and the video, concatenated.

    Args:
        channels: C.
        clips: K.
        hidden: units of the hidden layer.
    """

    def __init__(self, channels: int, clips: int, hidden: int) -> None:
        super().__init__()
        self.mlp = mlp((clips + 1) * channels, hidden, 1)

    def forward(self, clips: Tensor, video: Tensor) -> Tensor:
        """Clips in some order `[B, K, C]`, the video `[B, C]` -> scores `[B]`."""
        return self.mlp(torch.cat([clips.flatten(1), video], dim=1))[:, 0]


class GRUMLPOrder(nn.Module):
    """A GRU reads the clips; a two-layer MLP scores its last state and the video, concatenated.

    Args:
        channels: C.
        hidden: units of the hidden layer.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(channels, channels, batch_first=True)
        self.mlp = mlp(2 * channels, hidden, 1)

    def forward(self, clips: Tensor, video: Tensor) -> Tensor:
        """Clips in some order `[B, K, C]`, the video `[B, C]` -> scores `[B]`."""
        _, state = self.gru(clips)
        return self.mlp(torch.cat([state[0], video], dim=1))[:, 0]


class OrderClassifier(nn.Module):
    """Which of the K! orders it is, from the clips alone: VCOP (Xu et al., CVPR 2019), the comparison in Table 6.

    Every pair of clips goes through one layer, and the pairs together through a second one.

    Args:
        channels: C.
        clips: K, 2 to 5.
        hidden: units for each pair.
    """

    def __init__(self, channels: int, clips: int, hidden: int) -> None:
        super().__init__()
        if not 2 <= clips <= 5:
            raise ValueError(f"OrderClassifier: clips must be 2 to 5 (K! classes), got {clips}")
        self.pairs = list(combinations(range(clips), 2))
        self.first = nn.Linear(2 * channels, hidden)
        self.second = nn.Linear(hidden * len(self.pairs), len(order_table(clips)))

    def forward(self, clips: Tensor) -> Tensor:
        """Clips in some order `[B, K, C]` -> logits `[B, K!]`, in the order of `order_table`."""
        pairs = torch.stack([torch.cat([clips[:, i], clips[:, j]], dim=1) for i, j in self.pairs], dim=1)
        return self.second(functional.relu(self.first(pairs)).flatten(1))


def order_table(clips: int) -> Tensor:
    """All orders of K clips, int64 `[K!, K]`; the first is the right one."""
    return torch.tensor(list(permutations(range(clips))))


def make_order_head(name: str, channels: int, clips: int, hidden: int, temperature: float) -> nn.Module:
    """One of these heads, by its --order-head."""
    if name == "gru":
        return GRUOrder(channels, temperature)
    if name == "mlp":
        return MLPOrder(channels, clips, hidden)
    if name == "gru-mlp":
        return GRUMLPOrder(channels, hidden)
    return OrderClassifier(channels, clips, hidden)


def reordered(clips: Tensor, orders: Tensor) -> Tensor:
    """`[B, K, C]` with row b's clips in the order `orders [B, K]`."""
    return clips.gather(1, orders[:, :, None].expand_as(clips))
