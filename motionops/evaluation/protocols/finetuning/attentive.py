"""An attentive probe: what a frozen map holds, gathered by a learnt query instead of the mean over its cells."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CELLS_OF_A_HEAD = 64


class AttentivePool(nn.Module):
    """One cross-attention block with a learnt query, then an MLP, each behind a LayerNorm and beside a shortcut, as
    V-JEPA's attentive classifier has them (Bardes et al., 2024; Assran et al., 2025).

    Args:
        channels: C of the maps; there is a head for each 64 of them that divide it evenly, at least one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        heads = max(n for n in range(1, max(1, channels // CELLS_OF_A_HEAD) + 1) if channels % n == 0)
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, channels))
        self.before = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """`[B, C, T', H', W'] -> [B, C]`."""
        cells = self.before(maps.float().flatten(2).transpose(1, 2))  # [B, N, C]
        query = self.query.expand(len(maps), -1, -1)
        gathered = query + self.attention(query, cells, cells, need_weights=False)[0]
        return (gathered + self.mlp(gathered))[:, 0]
