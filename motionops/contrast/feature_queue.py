"""The queue of past keys that serve as negatives, as in MoCo, with the video id of each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from motionops.arrays import Array, as_tensor
from motionops.ranks import host_numbers, world
from motionops.scalars import check_scalars

FEATURES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class FeatureQueue(nn.Module):
    """A ring of the latest features of all ranks (He et al. 2020, MoCo, section 3.2), the same on every rank.

    It starts with random unit rows of unknown videos. Everything is a buffer, the write position too: the module's
    state dict saves and restores it whole. Seed all ranks alike, or let DistributedDataParallel broadcast the first
    state.

    Args:
        size: rows that are kept, at least 1.
        dim: size of a feature, at least 1.
        dtype: type of ``features``: float32, bfloat16, float16 or float64.

    Attributes:
        features: ``[size, dim]``.
        ids: ``[size]`` int64, the video of each row; −1 where it is unknown.
        position: scalar int64, the row that is written next.
    """

    features: Tensor
    ids: Tensor
    position: Tensor

    def __init__(self, size: int, dim: int, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        check_scalars("FeatureQueue", whole={"size": size, "dim": dim})
        size, dim = int(size), int(dim)
        if size < 1:
            raise ValueError(f"FeatureQueue: size must be at least 1, got {size}")
        if dim < 1:
            raise ValueError(f"FeatureQueue: dim must be at least 1, got {dim}")
        if dtype not in FEATURES:
            raise TypeError(f"FeatureQueue: dtype must be float32, float64, bfloat16 or float16, got {dtype}")
        self.register_buffer("features", torch.empty(size, dim, dtype=dtype))
        self.register_buffer("ids", torch.empty(size, dtype=torch.int64))
        self.register_buffer("position", torch.empty((), dtype=torch.int64))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """As it starts: new random unit rows of unknown videos. What deferred initialisation calls."""
        drawn = torch.float64 if self.features.dtype == torch.float64 else torch.float32
        rows = torch.randn(self.features.shape, dtype=drawn, device=self.features.device)
        self.features.copy_(F.normalize(rows, dim=1))
        self.ids.fill_(-1)
        self.position.zero_()

    @torch.no_grad()
    def enqueue(self, features: Tensor | Array, ids: Tensor | Array | None = None) -> None:
        """Writes the features of all ranks, in rank order, over the oldest rows.

        Any number of rows: a remainder wraps to the start, and of more rows than it holds the last are kept.
        The ranks may have different numbers of rows; all of them must call.

        Args:
            features: ``[N, dim]`` of this rank, of any floating type; they are detached.
            ids: ``[N]`` int64, their videos; None: unknown.

        Raises:
            TypeError: no tensor or array, or a type that does not fit.
            ValueError: a shape or device that does not fit.
        """
        size, dim = self.features.shape
        features = as_tensor("FeatureQueue.enqueue", "features", features)
        if features.ndim != 2 or features.shape[1] != dim:
            raise ValueError(f"FeatureQueue.enqueue: features must be [N, D={dim}], got {list(features.shape)}")
        if not features.is_floating_point():
            raise TypeError(f"FeatureQueue.enqueue: features must be of a floating type, got {features.dtype}")
        if features.device != self.features.device:
            raise ValueError(f"FeatureQueue.enqueue: features must be on {self.features.device}, got {features.device}")
        if ids is None:
            ids = torch.full((len(features),), -1, dtype=torch.int64, device=features.device)
        ids = as_tensor("FeatureQueue.enqueue", "ids", ids)
        if ids.dtype != torch.int64:
            raise TypeError(f"FeatureQueue.enqueue: ids must be int64, got {ids.dtype}")
        if ids.shape != features.shape[:1]:
            raise ValueError(f"FeatureQueue.enqueue: ids must be [N={len(features)}], got {list(ids.shape)}")
        if ids.is_meta and not features.is_meta:
            raise ValueError(f"FeatureQueue.enqueue: ids must be on {features.device}, got {ids.device}")
        features, ids = gather_rows(features.detach().to(self.features.dtype), ids.to(features.device))

        places, kept = self._places(len(features))
        self.features.index_copy_(0, places, features[kept])
        self.ids.index_copy_(0, places, ids[kept])
        self.position.add_(len(features)).remainder_(size)

    @torch.no_grad()
    def followed_by(self, features: Tensor) -> Tensor:
        """``features`` as they will be once these rows ``[N, dim]`` of all ranks have entered; nothing changes yet."""
        (features,) = gather_rows(features.detach().to(self.features.dtype))
        places, kept = self._places(len(features))
        return self.features.index_copy(0, places, features[kept])

    def _places(self, count: int) -> tuple[Tensor, slice]:
        """Where `count` rows are written, and which of them, as if one by one: not those that later ones overwrite."""
        size = len(self.features)
        kept = min(count, size)
        places = self.position + torch.arange(count - kept, count, device=self.features.device)
        return places % size, slice(count - kept, None)

    def extra_repr(self) -> str:
        return f"size={self.features.shape[0]}, dim={self.features.shape[1]}, dtype={self.features.dtype}"


def gather_rows(*columns: Tensor) -> tuple[Tensor, ...]:
    """Rows of all ranks one after another, in rank order; how many may differ between ranks.

    Args:
        columns: ``[N, ...]`` each, of one N. Hosts tell each other how many; no device is waited for.

    Returns:
        As many tensors, ``[sum of all N, ...]``.
    """
    _, processes = world()
    if processes == 1:
        return columns
    lengths = host_numbers(len(columns[0]))
    return tuple(_gather_padded(rows, lengths) for rows in columns)


def _gather_padded(rows: Tensor, lengths: list[int]) -> Tensor:
    # Collectives want equal shapes: everyone sends as many rows as the longest has.
    padded = rows.new_zeros(max(lengths), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in lengths]
    distributed.all_gather(parts, padded)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])
