"""Layers of networks as operators."""

from motionops.layers.batch_norm import BatchNorm3d
from motionops.layers.ghost_batch_norm import GhostBatchNorm, ghost_batch_norm, ghost_batch_norm_reference

__all__ = ["BatchNorm3d", "GhostBatchNorm", "ghost_batch_norm", "ghost_batch_norm_reference"]
