"""MCL, motion-focused contrastive learning (Li et al., ICCV 2021): networks and losses, equation by equation."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

import motionops
from motionops import FeatureQueue
from motionops.methods.mcl.flags import MCLConfig
from motionops.methods.mcl.motion_alignment import motion_alignment
from motionops.methods.mcl.pictures import report
from motionops.methods.mcl.recording import recorded
from motionops.methods.mcl.seco import OrderLoss, intra_loss
from motionops.methods.mcl.views import cut, tubelets
from motionops.models import ProjectionHead, starting_backbone
from motionops.models.pathway import pooled
from motionops.models.shapes import feature_shape
from motionops.training.method import Batch, Method, Pathway, Shuffle, Step


class MCL(Method):
    """The networks, the queue and the losses of MCL.

    Args:
        config: the flags.
        backbone: `[B, 3, T, S, S] -> [B, C, T', H', W']`, any module; by default the one that the flags name. What is
            aligned with motion is the output of its `last_convolution`, or where it names none its own.
            Prepared motion is of the cells of its map only if `make_dataset` is given their `grid`; else it is of the
            cells of the network that the flags name, averaged to these.
    """

    def __init__(self, config: MCLConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config)
        c = config
        self.clips_per_step = len(c.views()) * c.batch_size
        backbone = starting_backbone(c.backbone, c.init, backbone)
        channels, *grid = feature_shape(backbone, c.frames, c.size)
        self.grid = tuple(grid)  # the cells that are aligned with motion
        # SeCo's losses have heads of their own.
        heads = {name: ProjectionHead(channels, c.hidden, c.dim) for name in c.seco}
        heads = nn.ModuleDict({"inter": ProjectionHead(channels, c.hidden, c.dim), **heads})
        self.path = Pathway(backbone, heads, c.momentum, c.group)
        self.order = OrderLoss(c.dim) if "order" in c.seco else None
        self.queue = FeatureQueue(c.queue, c.dim)

    report = report

    def head(self, name: str, features: Tensor) -> Tensor:
        """Embeddings `[B, D]` of a query's features `[B, C]`, by one of the heads."""
        return self.path.head[name](features)

    def key_head(self, name: str, features: Tensor) -> Tensor:
        """Those of keys, by the head's momentum copy; no gradient."""
        return self.path.key_head.network[name](features)

    def one_graph(self) -> bool:
        """What is aligned is taken out of the network by a hook, and differentiated inside the step."""
        return not self.config.aligns()

    def not_compiled(self) -> set[str]:
        """The aligned gradient is differentiated again, which torch.compile cannot."""
        return {"path.backbone"} if self.config.aligns() and self.config.alignment_variant != "v1" else set()

    def prepare(
        self, batch: Batch
    ) -> tuple[Tensor, list[Tensor], list[Shuffle | None], Tensor | None, Tensor | None, Tensor]:
        """The query's clip, the keys' and the shuffled BatchNorm of each, the query's motion, whether it is first, and
        the numbers of the videos.

        The motion is that of its cells, `[B, T', H', W']`; first of its video's clips is told `[B]` for SeCo's order.
        """
        extents, motion = tubelets(self.config, batch, self.grid)
        query, *keys = cut(self.config, batch, extents)
        shuffles = [self.draw_shuffle(clip, number) for number, clip in enumerate(keys)]
        before = batch.starts[:, 0] <= batch.starts[:, 1] if "order" in self.config.seco else None
        return query, keys, shuffles, motion, before, batch.index

    def losses(
        self,
        query_clip: Tensor,
        key_clips: list[Tensor],
        shuffles: list[Shuffle | None],
        motion: Tensor | None,
        before: Tensor | None,
        ids: Tensor,
    ) -> Step:
        """From the clips to the losses; arguments are those that `prepare` returns."""
        c, path = self.config, self.path
        with recorded(path.backbone) if c.aligns() else nullcontext() as outputs:
            query = pooled(path.maps(query_clip))
        # The key heads have no BatchNorm: one call for the keys of all clips, [K B, C].
        keys = torch.cat([pooled(features) for features in path.key_maps(key_clips, shuffles)])
        q, k = self.head("inter", query), self.key_head("inter", keys)

        many, owners = len(key_clips), {}
        if not c.own_negatives:
            owners = {"query_ids": ids.repeat(many), "queue_ids": self.queue.ids}
        loss, rank = motionops.queue_infonce(  # Eq. 3, for each positive key
            q.repeat(many, 1), k, self.queue.features, temperature=c.temperature, **owners
        )[:2]
        losses = {"nce": loss}
        if c.aligns():
            losses |= self.alignment(q, k[: len(q)], outputs, motion)
        losses |= self.seco_losses(query, keys, before)
        return Step(losses, {"accuracy": (rank == 0).float().mean()}, [("queue", k, ids.repeat(many))])

    def weight(self, name: str) -> float:
        """The alignment's parts have one weight, larger in the first epochs; that of SeCo's order rises to 1."""
        c = self.config
        if name in c.alignment:
            return c.weight_alignment * (c.alignment_boost if self.epoch < c.alignment_boost_epochs else 1.0)
        return (self.epoch + 1) / c.epochs if name == "order" else super().weight(name)

    def alignment(self, query: Tensor, key: Tensor, outputs: list[Tensor], motion: Tensor) -> dict[str, Tensor]:
        """The parts of the motion alignment loss (Eqs. 4 to 7), of h and of its gradient under q . k+."""
        c, gradient = self.config, None
        if c.alignment_variant != "v1":
            gradient = torch.cat(torch.autograd.grad((query * key).sum(), outputs, create_graph=True))
        parts = motion_alignment(
            gradient, motion, features=torch.cat(outputs), variant=c.alignment_variant, form=c.alignment_form
        )
        return {part: getattr(parts, part) for part in c.alignment}

    def seco_losses(self, query: Tensor, keys: Tensor, before: Tensor | None) -> dict[str, Tensor]:
        """What the released code adds of SeCo, from features of the query `[B, C]` and of its keys, `[3 B, C]`."""
        c, losses = self.config, {}
        if "intra" in c.seco:
            same, *others = self.key_head("intra", keys).chunk(3)
            own = self.head("intra", query)
            losses["intra"] = intra_loss(own, same, torch.stack(others, dim=1), temperature=c.temperature)
        if "order" in c.seco:
            others = self.key_head("order", keys[len(query) :]).chunk(2)
            losses["order"] = self.order(self.head("order", query), torch.stack(others, dim=1), before)
        return losses
