"""Controllable Augmentations (Qian et al., ECCV 2022 workshop): the network, the heads and the losses."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

import motionops
from motionops.methods.controllable.drawn import Drawn, draw
from motionops.methods.controllable.flags import ControllableConfig
from motionops.methods.controllable.level_information import LevelInformation
from motionops.methods.controllable.mutual_information import information_bound
from motionops.methods.controllable.order_heads import make_order_head, reordered
from motionops.methods.controllable.pictures import report
from motionops.methods.controllable.views import GLOBAL, LOCAL, cut
from motionops.models import ProjectionHead, finer_in_time, starting_backbone
from motionops.models.shuffled_batch_norm import forward_in_groups
from motionops.ranks import gather_with_gradient
from motionops.training.method import Batch, Method, Step


class Controllable(Method):
    """The network at its two temporal resolutions, the heads and the losses. K local clips, one global view.

    Args:
        config: the flags.
        backbone: `[B, 3, T, S, S] -> [B, C, T', H', W']`, any module that `finer_in_time` can make --global-cells of;
            by default the one that the flags name.
    """

    def __init__(self, config: ControllableConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config)
        c = config
        self.clips_per_step = c.batch_size * (c.clips + c.uses_global())
        self.backbone = starting_backbone(c.backbone, c.init, backbone)
        channels, *grid = c.shape_of(self.backbone)
        self.factor = c.global_cells // grid[0] if c.uses_global() else 1
        self.head = None
        if c.head == "mlp" and {"rc", "nce"} & set(c.losses):
            self.head = ProjectionHead(channels, c.hidden, c.dim)
        if "mi" in c.losses:
            shape = {"videos": c.batch_size // c.accumulate, "clips": c.clips, "marginals": c.marginals}
            learning = {"memory": c.estimator_memory, "steps": c.estimator_steps, "rate": c.estimator_rate}
            self.information = LevelInformation(channels, c.hidden, c.estimator, c.decay, **shape, **learning)
        if "td" in c.losses:
            self.order = make_order_head(c.order_head, channels, c.clips, c.hidden, c.order_temperature)
            if c.order_input == "map":
                self.order_layer = nn.Linear(math.prod(grid) * channels, channels)

    report = report

    def prepare(self, batch: Batch) -> tuple[Tensor | None, Tensor, Tensor, Drawn]:
        """The global view, the local clips, where they are cut out, and what is drawn for the losses."""
        clips = cut(self.config, batch, self.shared_generator(0))
        generators = self.shared_generator(1), self.shared_generator(2)
        return clips.view, clips.local, batch.extents, draw(self.config, clips.levels, *generators, self.device)

    def losses(self, view: Tensor | None, local: Tensor, extents: Tensor, drawn: Drawn) -> Step:
        """From the global view `[B, 3, T, S, S]` and the local clips `[B K, 3, T, S, S]`, cut out at `extents
        [B, 1 + K, 3, 2]`, to the losses."""
        c = self.config
        local_map, view_map = self.local_maps(local), None if view is None else self.view_map(view)
        losses, shown, enqueue = {}, {}, []
        if "rc" in c.losses:
            losses["rc"] = self.region_loss(local_map, view_map, extents)
        # Features of whole clips, those of all ranks: a step's losses are of its whole batch.
        local = gather_with_gradient(local_map.float().mean(dim=(2, 3, 4)))  # [B, K, C]
        view = None if view_map is None else gather_with_gradient(view_map.float().mean(dim=(1, 2, 3)))  # [B, C]
        if "td" in c.losses:
            ordered = scaled(local)
            if c.order_input == "map":
                ordered = self.order_layer(scaled(gather_with_gradient(local_map.float())).flatten(2))
            losses["td"], shown["accuracy"] = self.order_loss(ordered, None if view is None else scaled(view), drawn)
        if "nce" in c.losses:
            losses["nce"], accuracy = self.clip_loss(local, view)
            shown.setdefault("accuracy", accuracy)
        if "mi" in c.losses:
            levels, views = self.information(scaled(local), scaled(view), drawn)
            # f goes down from the maximum over theta (Eq. 6) to 0: below, a bound of information says nothing.
            losses["mi"] = levels.clamp(min=0) + views.clamp(min=0)
            shown |= {"mi_levels": levels.detach(), "mi_views": views.detach()}
            enqueue.append(("information", scaled(local).detach().flatten(0, 1), drawn.levels))
        return Step(losses, shown, enqueue)

    def local_maps(self, local: Tensor) -> Tensor:
        """f: feature maps of the local clips, `[B K, 3, T, S, S] -> [B, K, t, h, w, C]`."""
        maps = forward_in_groups(self.backbone, local, self.config.clips * self.config.group)
        return channels_last(maps).unflatten(0, (-1, self.config.clips))

    def view_map(self, view: Tensor) -> Tensor:
        """f', which is f with finer time (Section 3.1): `[B, 3, T, S, S] -> [B, t', h', w', C]`."""
        with finer_in_time(self.backbone, self.factor):
            return channels_last(forward_in_groups(self.backbone, view, self.config.group))

    def project(self, features: Tensor) -> Tensor:
        """`[..., C]` -> what rc and nce compare, of unit length."""
        return functional.normalize(features.float(), dim=-1) if self.head is None else self.head(features)

    def region_loss(self, local_map: Tensor, view_map: Tensor, extents: Tensor) -> Tensor:
        """L_rc (Eq. 3): every cell of the local clips against all cells of the global maps of the whole batch."""
        of_all = (self.project(local_map), self.project(view_map), extents)
        query, key, extents = [gather_with_gradient(values) for values in of_all]
        tau = self.config.temperature
        return motionops.region_contrast(query, key, extents[:, LOCAL], extents[:, GLOBAL], temperature=tau)

    def clip_loss(self, local: Tensor, view: Tensor | None) -> tuple[Tensor, Tensor]:
        """L_nce: a clip against another of its video, or against the global view; negatives are the other videos'."""
        c = self.config
        query = self.project(local)  # [B, K, D]
        if c.nce_pairs == "clips" and c.clips > 1:
            key = query.roll(-1, dims=1)
        else:
            key = self.project(view)[:, None].expand_as(query)
        terms = [
            motionops.pairwise_infonce(query[:, k].contiguous(), key[:, k].contiguous(), temperature=c.temperature)
            for k in range(c.clips)
        ]
        rank = torch.cat([term.rank for term in terms])
        return torch.stack([term.loss for term in terms]).mean(), (rank == 0).float().mean()

    def order_loss(self, local: Tensor, view: Tensor | None, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """L_td (Eq. 7): minus the information between the clips in order and the video; and how often order wins."""
        c = self.config
        if c.order_head == "vcop":
            logits = self.order(reordered(local, drawn.orders))
            right = logits.argmax(dim=1) == drawn.target
            return functional.cross_entropy(logits, drawn.target), right.float().mean()
        joint = self.order(local, view)
        repeated = local.repeat_interleave(c.shuffles, dim=0), view.repeat_interleave(c.shuffles, dim=0)
        marginal = self.order(reordered(repeated[0], drawn.orders), repeated[1]).unflatten(0, (-1, c.shuffles))
        bound = information_bound(joint.float(), marginal.float(), c.order_estimator)
        return -bound, (joint[:, None] > marginal).all(dim=1).float().mean()


def channels_last(features: Tensor) -> Tensor:
    """`[B, C, T, H, W] -> [B, T, H, W, C]`."""
    return features.permute(0, 2, 3, 4, 1)


def scaled(features: Tensor) -> Tensor:
    """`[..., C]`, scaled to a mean square of 1: no loss is lowered by making all features small or large."""
    return functional.normalize(features, dim=-1) * math.sqrt(features.shape[-1])
