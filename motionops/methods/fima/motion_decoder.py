"""FIMA's motion decoder: predicts the motion features of one view from the RGB features of two (Zhu et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from motionops.models.positions import sinusoidal_positions


class MotionDecoder(nn.Module):
    """Cross-attention from the source view's frames to the target view's (FIMA Eqs. 4 and 9, Fig. 6).

    Frame i of the source map is the query, frame i of the target map is key and value; cells attend to the target
    alone, not to each other. A linear layer takes C to `width`; sinusoidal positions 0 .. H*W-1, the same for each
    frame, are added on both sides; a learnt [cls] token, which carries no position, goes before the queries. Each
    layer is `x += attention(norm(x), target)`, `x += feed_forward(norm(x))`: the target is not normalised, there is no
    norm behind the last layer. A linear layer takes `width` back to C.

    Args:
        channels: C of both maps.
        width: size of the tokens; even, and a multiple of `heads`.
        depth: number of layers.
        heads: attention heads.
        feedforward: hidden size of the feed-forward part (ReLU).
        dropout: probability, on attention weights, in and behind the feed-forward part, behind the attention.
        positions: length of the position table; maps may have at most so many cells a frame.
        class_token: whether there is a [cls] token; without it the second output is None.
    """

    def __init__(
        self,
        channels: int,
        width: int = 512,
        depth: int = 2,
        heads: int = 4,
        feedforward: int = 512,
        dropout: float = 0.1,
        positions: int = 100,
        class_token: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (
            ("channels", channels),
            ("depth", depth),
            ("heads", heads),
            ("feedforward", feedforward),
            ("positions", positions),
        ):
            if value < 1:
                raise ValueError(f"MotionDecoder: {name} must be at least 1, got {value}")
        if width < 2 or width % 2 or width % heads:
            raise ValueError(f"MotionDecoder: width must be even and a multiple of heads={heads}, got {width}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"MotionDecoder: dropout must be in [0, 1), got {dropout}")
        self.channels = channels
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if class_token else None
        self.embed = nn.Linear(channels, width)
        self.layers = nn.ModuleList(CrossAttentionLayer(width, heads, feedforward, dropout) for _ in range(depth))
        self.unembed = nn.Linear(width, channels)
        self.register_buffer("positions", sinusoidal_positions(positions, width), persistent=False)

    def forward(
        self, source_map: Tensor, target_map: Tensor, return_attention: bool = False
    ) -> tuple[Tensor, Tensor | None] | tuple[Tensor, Tensor | None, Tensor]:
        """Predict the target view's motion features at the source view's cells.

        Args:
            source_map: F^q, `[B, C, T, H, W]` RGB feature map of the source view.
            target_map: F~^q, `[B, C, T, H, W]` of the target view; H and W may differ from the source's.
            return_attention: also give the last layer's attention, averaged over its heads (FIMA Fig. 7).

        Returns:
            The predicted map `[B, C, T, H, W]` and the class prediction `[B, C, T]` (None without [cls]); with
            `return_attention` also weights `[B, T, N, M]`, rows the source's cells (with [cls] it is row 0, so
            N = 1 + H*W), columns the target's cells; rows sum to 1.

        Raises:
            ValueError: wrong rank, channels, or differing B, T; more cells than `positions`.
        """
        self._check(source_map, target_map)
        b, _, t, h, w = source_map.shape
        queries, memory = self._tokens(source_map), self._tokens(target_map)
        if self.cls_token is not None:
            queries = torch.cat([self.cls_token.expand(len(queries), -1, -1).to(queries.dtype), queries], dim=1)
        for layer in self.layers[:-1]:
            queries, _ = layer(queries, memory)
        queries, attention = self.layers[-1](queries, memory, return_attention)
        predicted = self.unembed(queries).unflatten(0, (b, t))  # [B, T, (1 +) H*W, C]
        class_prediction = None
        if self.cls_token is not None:
            class_prediction, predicted = predicted[:, :, 0].transpose(1, 2), predicted[:, :, 1:]
        predicted = predicted.permute(0, 3, 1, 2).unflatten(3, (h, w))
        if return_attention:
            return predicted, class_prediction, attention.unflatten(0, (b, t))
        return predicted, class_prediction

    def _tokens(self, features: Tensor) -> Tensor:
        """`[B, C, T, H, W] -> [B*T, H*W, width]`, positions added."""
        tokens = self.embed(features.permute(0, 2, 3, 4, 1).flatten(2, 3).flatten(0, 1))
        return tokens + self.positions[: tokens.shape[1]].to(tokens.dtype)

    def _check(self, source_map: Tensor, target_map: Tensor) -> None:
        for name, features in (("source_map", source_map), ("target_map", target_map)):
            if features.ndim != 5 or features.shape[1] != self.channels:
                raise ValueError(
                    f"MotionDecoder: {name} must be [B, C={self.channels}, T, H, W], got {list(features.shape)}"
                )
            cells = features.shape[3] * features.shape[4]
            if cells > len(self.positions):
                raise ValueError(f"MotionDecoder: {name} must have H*W <= {len(self.positions)} cells, got {cells}")
        b, _, t, _, _ = source_map.shape
        if (target_map.shape[0], target_map.shape[2]) != (b, t):
            raise ValueError(
                f"MotionDecoder: target_map must be [B={b}, C={self.channels}, T={t}, H, W], "
                f"got {list(target_map.shape)}"
            )


class CrossAttentionLayer(nn.Module):
    """A transformer decoder layer without self-attention, norms first."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = dropout

    def forward(self, queries: Tensor, memory: Tensor, return_attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """Queries `[S, N, W]`, memory `[S, M, W]` -> queries and, if asked for, the heads' mean attention."""
        attended, weights = self.multihead_attn(self.norm1(queries), memory, memory, need_weights=return_attention)
        queries = queries + functional.dropout(attended, self.dropout, self.training)
        hidden = functional.dropout(functional.relu(self.linear1(self.norm2(queries))), self.dropout, self.training)
        return queries + functional.dropout(self.linear2(hidden), self.dropout, self.training), weights
