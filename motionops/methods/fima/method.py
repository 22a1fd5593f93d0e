"""FIMA, fine-grained motion alignment (Zhu et al., ACM MM 2023): the networks and the losses, equation by equation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import motionops
from motionops.methods.fima.columns import frame_columns, pixel_columns
from motionops.methods.fima.flags import FIMAConfig
from motionops.methods.fima.motion_decoder import MotionDecoder
from motionops.methods.fima.pictures import report
from motionops.methods.fima.views import VIEWS, Clips, cut
from motionops.models.activation import above_quantile, activation_map, foreground_mask
from motionops.models.shapes import feature_shape
from motionops.training.method import Batch, Method, Pathway, Step


class FIMA(Method):
    """The networks, queues and losses of FIMA. `v` is a view of a video, `o` the other one.

    Args:
        config: the flags.
        backbone: `[B, 3, T, S, S] -> [B, C, T', H', W']`, any module; by default the one that the flags name.
    """

    def __init__(self, config: FIMAConfig, backbone: nn.Module | None = None) -> None:
        super().__init__(config)
        c = config
        self.path = Pathway.of(c, backbone)
        channels, frames, *self.grid = feature_shape(self.backbone, c.frames, c.size)
        c.require_frames(frames)
        self.decoder = self.frame_decoder = None
        decoded = {"pix", "fra"} & set(c.losses) if c.motion_decoder != "none" else ()
        if c.motion_decoder == "different" and len(decoded) == 2:
            self.decoder, self.frame_decoder = self.make_decoder(channels, False), self.make_decoder(channels, True)
        elif decoded:
            self.decoder = self.make_decoder(channels, "fra" in decoded)
        sizes = dict.fromkeys(("vv", "vd", "fra"), c.queue) | ({"pix": c.pixel_queue} if c.pixel_queue else {})
        self.queues = nn.ModuleDict({k: motionops.FeatureQueue(n, c.dim) for k, n in sizes.items() if k in c.losses})

    report = report

    def make_decoder(self, channels: int, class_token: bool) -> MotionDecoder:
        c, (height, width) = self.config, self.grid
        sizes = c.decoder_width, c.decoder_depth, c.decoder_heads, c.decoder_feedforward, c.decoder_dropout
        return MotionDecoder(channels, *sizes, positions=height * width, class_token=class_token)

    def prepare(self, batch: Batch) -> tuple[Clips, Clips, Tensor]:
        """The clips, the shuffled BatchNorm of each under the momentum encoder, and the extents of both views."""
        clips = cut(self.config, batch)
        return clips, clips.each(self.draw_shuffle), batch.extents[:, :VIEWS]

    def losses(self, clips: Clips, shuffles: Clips, extents: Tensor) -> Step:
        """From the clips, cut out at `extents [B, views, 3, 2]`, to the losses."""
        c, path = self.config, self.path
        maps = path.maps(clips.rgb)  # F^q, both views
        key = path.key_maps(clips, shuffles)  # M^k
        losses, ranks, enqueue = {}, {}, []

        if {"vv", "vd"} & set(c.losses):
            queries = path.embed(maps)
        for name, keys in (("vv", key.rgb), ("vd", key.difference)):
            if name in c.losses:
                keys = path.embed_keys(keys)
                losses[name], ranks[name] = self.clip_loss(name, queries, keys)
                enqueue += [(f"queues.{name}", k, None) for k in keys[::-1]]
        if {"pix", "fra"} & set(c.losses):
            pixels, frames = self.predict(maps)
        if "pix" in c.losses:
            motion = list(path.key_head(torch.cat(key.difference).permute(0, 2, 3, 4, 1)).chunk(VIEWS))
            masks = [self.foreground(*both) for both in zip(key.rgb, key.difference, strict=True)]
            losses["pix"] = self.pixel_loss(pixels, motion, extents, masks)
            if "pix" in self.queues:
                enqueue += [("queues.pix", m.flatten(0, 3), None) for m in motion[::-1]]
        if "fra" in c.losses:
            parts = path.embed_keys(key.parts)
            losses["fra"], ranks["fra"] = self.frame_loss(frames, parts)
            enqueue += [("queues.fra", part, None) for view in reversed(parts) for part in view]
        accuracy = {"accuracy": (next(iter(ranks.values())) == 0).float().mean()} if ranks else {}
        return Step(losses, accuracy, enqueue)

    def clip_loss(self, name: str, queries: list[Tensor], keys: list[Tensor]) -> tuple[Tensor, Tensor]:
        """L_VV or L_VD, both directions: view v against the other view's key (Eqs. 1 and 2)."""
        queue, tau = self.queues[name], self.config.temperature
        if self.config.enqueue == "between":
            first = motionops.queue_infonce(queries[0], keys[1], queue.features, temperature=tau)
            second = motionops.queue_infonce(queries[1], keys[0], queue.followed_by(keys[1]), temperature=tau)
            return (first.loss + second.loss) / 2, torch.cat([first.rank, second.rank])
        # Both directions as the rows of one call: the queue is read once.
        return motionops.queue_infonce(torch.cat(queries), torch.cat(keys[::-1]), queue.features, temperature=tau)[:2]

    def predict(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor] | None]:
        """The motion of the other view, from each view: pixels [B, T, H, W, D], frames [B, T, D] (Eqs. 7 and 9)."""
        sources, targets = torch.cat(maps), torch.cat(maps[::-1])
        pixels, frames, head = sources, None, self.path.head
        if self.decoder is not None:
            pixels, frames = self.decoder(sources, targets)
        if self.frame_decoder is not None:
            _, frames = self.frame_decoder(sources, targets)
        pixels = list(head(pixels.permute(0, 2, 3, 4, 1)).chunk(VIEWS)) if "pix" in self.config.losses else []
        return pixels, None if frames is None else list(head(frames.transpose(1, 2)).chunk(VIEWS))

    def foreground(self, key_map: Tensor, motion_map: Tensor) -> Tensor:
        """Cells [B, H, W] of a view that are foreground, from the maps that --mask-source names.

        Beta is their share (Section 3.2, Appendix D.2), so the quantile of Eq. 6, which they exceed, is 1 - beta.
        """
        quantile = 1 - self.config.foreground_ratio
        if self.config.mask_source == "both":
            return foreground_mask(key_map, motion_map, quantile)
        activation = activation_map(key_map if self.config.mask_source == "rgb" else motion_map)
        return above_quantile(activation, quantile)

    def pixel_loss(self, pixels: list[Tensor], motion: list[Tensor], extents: Tensor, masks: list[Tensor]) -> Tensor:
        """L_Pix (Eq. 8): the prediction at a foreground pixel of v against the motion near it in the other view o."""
        c, losses = self.config, []
        queue = self.queues["pix"].features if "pix" in self.queues else None
        for v, o in ((0, 1), (1, 0)):
            masked = {
                "query_mask": masks[v] if c.mask_position in ("prediction", "both") else None,
                "key_mask": masks[o] if c.mask_position in ("target", "both") else None,
            }
            losses.append(pixel_columns(c, pixels[v], motion[o], (extents[:, v], extents[:, o]), masked, queue))
        return torch.stack(losses).mean()

    def frame_loss(self, frames: list[Tensor], parts: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
        """L_Fra (Eq. 10): the prediction of frame i of the other view o against o's local motion i.

        Negatives: o's other parts and all parts of v, of all videos of the batch, and the queue.
        """
        c, terms = self.config, []
        for v, o in ((0, 1), (1, 0)):
            for i, key in enumerate(parts[o]):
                others = [*(part for j, part in enumerate(parts[o]) if j != i), *parts[v]]
                terms.append(frame_columns(c, frames[v][:, i], key, others, self.queues["fra"].features))
        losses, ranks = zip(*terms, strict=True)
        return torch.stack(losses).mean(), torch.cat(ranks)
