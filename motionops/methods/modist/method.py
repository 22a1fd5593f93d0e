"""MoDist, motion distillation (Xiao, Tighe, Modolo, 2021): the networks and the losses, equation by equation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import motionops
from motionops import FeatureQueue
from motionops.arrays import to_device
from motionops.errors import UserError
from motionops.methods.modist.flags import MoDistConfig
from motionops.methods.modist.pictures import report
from motionops.methods.modist.views import Pair, Prepared, cut
from motionops.models import build_backbone
from motionops.motion.pair_motion import RAFTPairs, tvl1_pairs
from motionops.ranks import sum_over_ranks, world
from motionops.training.method import Batch, Method, Pathway, Shuffle, Step

STEPS_WITHOUT_MOTION = 100  # a set in which so many steps found no clip above gamma has none


class MoDist(Method):
    """The two pathways, with their queues, and the losses. `v` is visual, `m` is motion.

    Args:
        config: the flags.
        backbone, motion_backbone: networks of the pathways, `[B, 3, T, S, S] -> [B, C, T', H', W']`, any modules; by
            default those that the flags name.
    """

    def __init__(
        self, config: MoDistConfig, backbone: nn.Module | None = None, motion_backbone: nn.Module | None = None
    ) -> None:
        super().__init__(config)
        c = config
        self.visual = Pathway.of(c, backbone)
        queues = {"visual": FeatureQueue(c.queue, c.dim)}
        if c.uses_motion():
            network = build_backbone(c.motion_backbone) if motion_backbone is None else motion_backbone
            self.motion = Pathway.around(network, c, c.motion_frames)
            queues["motion"] = FeatureQueue(c.queue, c.dim)
        self.queues = nn.ModuleDict(queues)
        self.pair_flow = RAFTPairs(c.raft_weights) if c.uses_raft() else tvl1_pairs
        # Videos drawn so far, of all ranks, and those of them without a clip above gamma; saved with the rest.
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))
        self.register_buffer("still", torch.zeros((), dtype=torch.int64))

    report = report

    @property
    def backbone(self) -> nn.Module:
        """What is kept."""
        return self.visual.backbone

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if isinstance(batch.own, Prepared):  # no tensor: it stays where the host reads it
            batch.own = batch.own._replace(moving=torch.as_tensor(batch.own.moving).tolist())
        return batch

    def prepare(
        self, batch: Batch
    ) -> tuple[Pair, Pair | None, list[Shuffle | None], Tensor, tuple[Tensor, Tensor], Tensor | None]:
        """Visual and motion clips, the shuffled BatchNorm of both pathways, the videos' ids, which of them move and
        which have two different motion clips, and how many had no motion, of all that were drawn so far."""
        clips, ids = cut(self.config, batch, self.pair_flow), batch.index
        shuffles = [self.draw_shuffle(ids, key) for key in (0, 2)]
        rows = tuple(to_device(which.nonzero()[:, 0], ids.device) for which in (clips.moving, clips.paired))
        if self.config.compile:
            for each in rows:
                torch._dynamo.maybe_mark_dynamic(each, 0)  # one graph for any number of them from 2 on
        still = self.count_still(clips.moving) if self.config.uses_motion() else None
        return clips.visual, clips.motion, shuffles, ids, rows, still

    def losses(
        self,
        visual: Pair,
        motion: Pair | None,
        shuffles: list[Shuffle | None],
        ids: Tensor,
        rows: tuple[Tensor, Tensor],
        still: Tensor | None,
    ) -> Step:
        """From the clips of the videos `ids [B]` to the losses; of the two `rows` the first move, and the second have
        two different motion clips."""
        c, (rows, paired) = self.config, rows
        losses, ranks, enqueue, shown = {}, [], [], {}
        v_query, v_key = self.embed(self.visual, visual, shuffles[0])
        if "v" in c.losses:
            losses["v"], rank = self.contrast(v_query, v_key, self.queues["visual"], ids)
            ranks.append(rank)
        if c.uses_motion():
            # Videos without motion go through the motion pathway too (BatchNorm needs its batch), but into no loss.
            m_query, m_key = self.embed(self.motion, motion, shuffles[1])
            if "m" in c.losses:
                losses["m"], rank = self.moving_loss(m_query, m_key, self.queues["motion"], ids, paired)
                ranks.append(rank)
            if "mv" in c.losses:
                queues = self.queues["visual"], self.queues["motion"]
                to_motion_queue, to_visual_queue = queues if c.mv_negatives == "query" else queues[::-1]
                to_motion, rank = self.moving_loss(v_query, m_key, to_motion_queue, ids, rows)
                to_visual, _ = self.moving_loss(m_query, v_key, to_visual_queue, ids, rows)
                losses["mv"] = to_motion + to_visual  # Eq. 2
                ranks.append(rank)
            enqueue.append(("queues.motion", m_key[rows], ids[rows]))
            shown["low_motion"] = still
        enqueue.append(("queues.visual", v_key, ids))
        rank = torch.cat(ranks)
        shown["accuracy"] = (rank == 0).float().sum() / max(len(rank), 1)
        return Step(losses, shown, enqueue)

    def embed(self, pathway: Pathway, clips: Pair, shuffle: Shuffle | None) -> tuple[Tensor, Tensor]:
        """Query of a pathway's networks and key of their momentum copies, with shuffled BatchNorm; `[B, D]` each."""
        query = pathway.embed(pathway.maps(clips.query))
        return query, pathway.embed_keys(pathway.key_maps(clips.key, shuffle))

    def contrast(self, query: Tensor, key: Tensor, queue: FeatureQueue, ids: Tensor) -> tuple[Tensor, Tensor]:
        """IN(query, key, negatives of other videos), and the rank of the key among them (Eq. 1)."""
        temperature, owners = self.config.temperature, {"query_ids": ids, "queue_ids": queue.ids}
        return motionops.queue_infonce(query, key, queue.features, temperature=temperature, **owners)[:2]

    def moving_loss(
        self, query: Tensor, key: Tensor, queue: FeatureQueue, ids: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`contrast` of the videos `rows`; the mean over ranks is the mean over all their videos."""
        loss, rank = self.contrast(query[rows], key[rows], queue, ids[rows])
        _, size = world()
        if size > 1:
            count = loss.new_full((), len(rows))
            loss = loss * (size * count / sum_over_ranks(count).clamp(min=1))
        return loss, rank

    def count_still(self, moving: Tensor) -> Tensor:
        """Videos drawn so far of which no clip was above gamma. UserError where that is all of many."""
        counts = sum_over_ranks(to_device(torch.stack([torch.tensor(len(moving)), (~moving).sum()]), self.drawn.device))
        self.drawn += counts[0]
        self.still += counts[1]
        decided = self.step + 1 == min(self.steps_per_epoch, self.total_steps, STEPS_WITHOUT_MOTION)
        if decided and bool(self.drawn == self.still):
            raise UserError(
                f"--gamma {self.config.gamma}: of the {int(self.drawn)} videos drawn so far none has a clip of "
                f"{self.config.motion} above it; a lower --gamma, or 0, uses clips with less motion"
            )
        return self.still.float()
