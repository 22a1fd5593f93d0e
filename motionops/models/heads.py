"""Projection heads: from a backbone's features to the space in which the contrastive losses compare them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from motionops.arrays import as_tensor


class ProjectionHead(nn.Module):
    """Two linear layers with a ReLU between, over the last axis, then the L2 norm: 1 x 1 convolutions, channels last.

    One head serves pooled features and feature maps, as in FIMA (Sections 3.1 and 4.1). With bias, no BatchNorm.

    Args:
        channels: C, channels of the features.
        hidden: channels between the two convolutions.
        dim: D, size of the embedding.
    """

    def __init__(self, channels: int, hidden: int = 1024, dim: int = 128) -> None:
        super().__init__()
        # A 1 x 1 convolution is a linear map of the channel axis; Linear spares a copy into the convolution's layout.
        self.first = nn.Linear(channels, hidden)
        self.second = nn.Linear(hidden, dim)
        self.dim = dim

    def forward(self, features: Tensor) -> Tensor:
        """Features `[..., C]` (channels last) -> unit embeddings `[..., D]`, in float32 also under autocast.

        Raises:
            TypeError: no tensor or array, or not a floating one.
            ValueError: another last axis; a map `[B, C, t, h, w]` wants `.movedim(1, -1)`.
        """
        features = as_tensor("ProjectionHead", "features", features)
        channels = self.first.in_features
        if features.ndim == 0 or features.shape[-1] != channels:
            raise ValueError(f"ProjectionHead: features must be [..., C={channels}], got {list(features.shape)}")
        if not features.is_floating_point():
            raise TypeError(f"ProjectionHead: features must be of a floating type, got {features.dtype}")
        embedding = self.second(functional.relu(self.first(features)))
        return functional.normalize(embedding.float(), dim=-1)
