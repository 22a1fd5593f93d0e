"""The two losses that the released MCL keeps from SeCo (Yao et al. 2021, "SeCo: Exploring Sequence Supervision").

A video gives a query clip, the same clip under another augmentation, and two other clips of the video.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def intra_loss(query: Tensor, same: Tensor, others: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Tell the query's own clip from other clips of its video, one other clip at a time.

    Mean over b and n of -log( e^{q.s/t} / (e^{q.s/t} + e^{q.o_n/t}) ): as released, a softmax of two for each of the
    other clips, not one of N + 1.

    Args:
        query: `[B, D]` unit rows of the head for this loss.
        same: `[B, D]`, the same clip under another augmentation, by the momentum encoder; no gradient.
        others: `[B, N, D]`, other clips of the video, by the momentum encoder; no gradient.
        temperature: > 0.

    Returns:
        Scalar; 0 for an empty batch.

    Raises:
        ValueError: shapes that do not fit, a temperature that is not positive.
    """
    if query.ndim != 2 or same.shape != query.shape:
        raise ValueError(f"intra_loss: query and same must be [B, D], got {list(query.shape)} and {list(same.shape)}")
    if others.ndim != 3 or others.shape[0] != query.shape[0] or others.shape[2] != query.shape[1]:
        raise ValueError(
            f"intra_loss: others must be [B={query.shape[0]}, N, D={query.shape[1]}], got {list(others.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"intra_loss: temperature must be > 0, got {temperature}")
    positive = (query * same.detach()).sum(dim=-1, keepdim=True)
    negative = torch.einsum("bd,bnd->bn", query, others.detach())
    return functional.softplus((negative - positive) / temperature).sum() / max(negative.numel(), 1)


class OrderLoss(torch.nn.Module):
    """Tell whether the query clip comes before or after the two other clips of its video.

    The three embeddings, the query's first, are laid side by side, the row of 3 D is brought to L2 norm 1 and a linear
    layer separates the two classes by cross-entropy. In the released code class 1 is "before both", class 0 "after
    both", the loss is weighted by epoch / epochs on UCF101 and by 0 on Kinetics; that is the trainer's to do.

    Args:
        dim: D of the embeddings.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.classifier = torch.nn.Linear(3 * dim, 2)

    def forward(self, query: Tensor, others: Tensor, before: Tensor) -> Tensor:
        """The mean cross-entropy.

        Args:
            query: `[B, D]` unit rows of the head for this loss.
            others: `[B, 2, D]`, two other clips in the order of time, by the momentum encoder; no gradient.
            before: `[B]` bool (or 0 and 1), whether the query comes before both.

        Raises:
            ValueError: shapes that do not fit.
        """
        if query.ndim != 2 or others.shape != (len(query), 2, query.shape[1]) or before.shape != (len(query),):
            raise ValueError(
                "OrderLoss: query, others and before must be [B, D], [B, 2, D] and [B], got"
                f" {list(query.shape)}, {list(others.shape)} and {list(before.shape)}"
            )
        rows = functional.normalize(torch.cat([query, others.detach().flatten(1)], dim=1), dim=1)
        losses = functional.cross_entropy(self.classifier(rows), before.long(), reduction="sum")
        return losses / max(len(query), 1)
