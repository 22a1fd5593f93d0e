"""MoCo, momentum contrast (He et al., CVPR 2020): the networks and the loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import motionops
from motionops.methods.moco.flags import MoCoConfig
from motionops.training.method import Batch, Method, Pathway, Shuffle, Step


class MoCo(Method):
    """A network, its momentum copy, and the queue of former keys. Any module can be the backbone."""

    def __init__(self, config: MoCoConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config)
        self.path = Pathway.of(config, backbone)
        self.queue = motionops.FeatureQueue(config.queue, config.dim)

    def prepare(self, batch: Batch) -> tuple[list[Tensor], list[Tensor], list[Shuffle | None]]:
        """The queries' clips, the keys', and the shuffled BatchNorm of each key (Section 3.3)."""
        first, second = (batch.clip(view, self.config.size, **self.config.colours()) for view in range(2))
        queries, keys = ([first, second], [second, first]) if self.config.symmetric else ([first], [second])
        return queries, keys, [self.draw_shuffle(key, number) for number, key in enumerate(keys)]

    def losses(self, queries: list[Tensor], keys: list[Tensor], shuffles: list[Shuffle | None]) -> Step:
        """InfoNCE against the queue (Eq. 1), which the keys enter when the step is done."""
        q = torch.cat(self.path.embed(self.path.maps(queries)))
        k = self.path.embed_keys(self.path.key_maps(keys, shuffles))
        loss, rank = motionops.queue_infonce(q, torch.cat(k), self.queue.features, temperature=self.config.temperature)
        return Step({"nce": loss}, {"accuracy": (rank == 0).float().mean()}, [("queue", key, None) for key in k])
