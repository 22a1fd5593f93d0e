"""MoCo, momentum contrast (He et al., CVPR 2020): the networks and the loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import motionops
from motionops.methods.moco.flags import MoCoConfig
from motionops.methods.moco.views import KEY, QUERY, cut
from motionops.models import ProjectionHead, starting_backbone
from motionops.models.pathway import Pathway
from motionops.models.shapes import feature_shape
from motionops.models.shuffled_batch_norm import Shuffle
from motionops.training.method import Method, Step


class MoCo(Method):
    """A network, its momentum copy, and the queue of former keys. Any module can be the backbone."""

    def __init__(self, config: MoCoConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config)
        c = config
        backbone = starting_backbone(c.backbone, c.init, backbone)
        channels, *_ = feature_shape(backbone, c.frames, c.size)
        self.path = Pathway(backbone, ProjectionHead(channels, c.hidden, c.dim), c.momentum, c.group)
        self.queue = motionops.FeatureQueue(c.queue, c.dim)

    @property
    def backbone(self) -> nn.Module:
        return self.path.backbone  # what is kept

    def prepare(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Shuffle | None]:
        """The query's clip, the key's, and the key's shuffled BatchNorm (Section 3.3)."""
        key = cut(self.config, batch, KEY)
        return cut(self.config, batch, QUERY), key, self.draw_shuffle(key)

    def losses(self, query: Tensor, key: Tensor, shuffle: Shuffle | None) -> Step:
        """InfoNCE against the queue (Eq. 1), which the keys enter when the step is done."""
        q = self.path.embed(self.path.maps(query))
        k = self.path.embed_keys(self.path.key_maps(key, shuffle))
        loss, rank = motionops.queue_infonce(q, k, self.queue.features, temperature=self.config.temperature)
        return Step({"nce": loss}, {"accuracy": (rank == 0).float().mean()}, [("queue", k, None)])
