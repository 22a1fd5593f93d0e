"""A network, its head and the momentum copies of both; clips by their names."""

from typing import Any, NamedTuple

import torch
from torch import nn

from motionops.models import ProjectionHead
from motionops.models.pathway import Pathway, leaves, like, pooled


class Views(NamedTuple):
    rgb: list[Any]
    motion: Any


class Network(nn.Module):
    """A map of one cell whose channels are the clip's."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, clips):
        return self.linear(clips.mean(dim=(2, 3, 4)))[..., None, None, None]


def pathway(momentum=0.75):
    torch.manual_seed(0)
    return Pathway(Network(), ProjectionHead(4, 8, 5), momentum)


def test_both_copies_move_towards_what_they_are_copies_of():
    path = pathway()
    pairs = [(path.backbone, path.key_backbone.network), (path.head, path.key_head.network)]
    former = [[value.clone() for value in copied.parameters()] for _, copied in pairs]
    with torch.no_grad():
        for own, _ in pairs:
            for parameter in own.parameters():
                parameter.add_(torch.randn_like(parameter))
    path.move()
    for (own, copied), before in zip(pairs, former, strict=True):
        for value, old, learnt in zip(copied.parameters(), before, own.parameters(), strict=True):
            torch.testing.assert_close(value, 0.75 * old + 0.25 * learnt.detach())
            assert not value.requires_grad


def test_maps_and_embeddings_come_in_the_nesting_of_the_clips():
    path = pathway()
    one, two, three = (torch.randn(2, 3, 2, 4, 4) for _ in range(3))
    clips = Views([one, two], three)
    maps = path.maps(clips)
    for found, clip in zip(leaves(maps), (one, two, three), strict=True):
        torch.testing.assert_close(found, path.backbone(clip))
    embeddings = path.embed(maps)
    assert isinstance(embeddings, Views)
    assert isinstance(embeddings.rgb, list)
    torch.testing.assert_close(embeddings.motion, path.head(path.backbone(three).flatten(1)))
    keys = path.embed_keys(path.key_maps(clips, Views([None, None], None)))
    torch.testing.assert_close(keys.rgb[1], embeddings.rgb[1].detach())  # nothing has moved yet
    assert not any(key.requires_grad for key in leaves(keys))
    assert like(clips, "abc") == Views(["a", "b"], "c")


def test_maps_of_16_bits_are_averaged_in_32():
    maps = torch.randn(2, 4, 3, 5, 5).bfloat16()
    assert pooled(maps).dtype == torch.float32
    torch.testing.assert_close(pooled(maps).double(), maps.double().mean(dim=(2, 3, 4)), rtol=1e-6, atol=1e-6)
