"""What the host draws for the losses of a step: orders of clips, and pairs of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from motionops.arrays import to_device
from motionops.methods.controllable.flags import ControllableConfig
from motionops.methods.controllable.level_pairs import level_pairs, other_videos
from motionops.methods.controllable.order_heads import order_table


class Drawn(NamedTuple):
    """What is drawn for a step, of the videos of all ranks; None where no loss needs it.

    `orders [videos * shuffles, K]` of the clips, wrong ones but for vcop, whose are of class `target [videos]`. Of all
    clips, flat: their `levels [videos * K]`; `first [P]` and `second [P]` share one, `others [videos * K, M]` go with
    each at random; `strangers [videos * K, M]` are videos other than each clip's own.
    """

    orders: Tensor | None = None
    target: Tensor | None = None
    levels: Tensor | None = None
    first: Tensor | None = None
    second: Tensor | None = None
    others: Tensor | None = None
    strangers: Tensor | None = None


def draw(
    config: ControllableConfig,
    levels: Tensor,
    of_orders: torch.Generator,
    of_pairs: torch.Generator,
    device: torch.device,
) -> Drawn:
    """Draw the orders of td and the pairs of mi, for all ranks' clips, whose `levels [videos, K]` these are."""
    c, (videos, clips) = config, levels.shape
    orders = target = flat = first = second = others = strangers = None
    if "td" in c.losses and c.order_head == "vcop":
        table = order_table(clips)
        target = torch.randint(len(table), (videos,), generator=of_orders)
        orders = table[target]
    elif "td" in c.losses:
        orders = wrong_orders(videos * c.shuffles, clips, of_orders)
    if "mi" in c.losses:
        of_clip = torch.arange(videos).repeat_interleave(clips)
        flat = levels.flatten()
        first, second, others = level_pairs(flat, of_clip, c.marginals, of_pairs)
        strangers = other_videos(of_clip, torch.arange(videos), c.marginals, of_pairs)
    drawn = (orders, target, flat, first, second, others, strangers)
    drawn = Drawn(*(None if rows is None else to_device(rows, device) for rows in drawn))
    if c.compile and first is not None:
        for rows in (drawn.first, drawn.second):
            torch._dynamo.maybe_mark_dynamic(rows, 0)  # one graph for any number of pairs from 2 on
    return drawn


def wrong_orders(count: int, clips: int, generator: torch.Generator) -> Tensor:
    """Random orders of K >= 2 clips that are not the right one, int64 `[count, K]`."""
    orders = torch.rand(count, clips, generator=generator).argsort(dim=1)
    right = (orders == torch.arange(clips)).all(dim=1)
    # The right order becomes one with two neighbours exchanged.
    place = torch.randint(clips - 1, (count,), generator=generator)
    rows = right.nonzero()[:, 0]
    orders[rows, place[rows]], orders[rows, place[rows] + 1] = place[rows] + 1, place[rows]
    return orders
