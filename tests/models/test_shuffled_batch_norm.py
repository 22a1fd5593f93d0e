"""Shuffled BatchNorm."""

import pytest
import torch
from torch import nn

from motionops.contrast import MomentumEncoder
from motionops.models.shuffled_batch_norm import (
    draw_shuffle,
    forward_each,
    forward_in_groups,
    forward_shuffled,
    uses_batch_statistics,
)
from motionops.ranks import gather
from tests.several_ranks import on_ranks


def drawn(clips, generator, group=0):
    return draw_shuffle(len(clips), generator, group, clips.device)


def test_groups_are_normalised_apart():
    bn = nn.BatchNorm1d(2, affine=False)
    x = torch.randn(8, 2) + torch.arange(8.0)[:, None]
    together = forward_in_groups(bn, x, 4)
    torch.testing.assert_close(together[:4], bn(x[:4]))
    torch.testing.assert_close(together[4:], bn(x[4:]))
    torch.testing.assert_close(forward_in_groups(bn, x, 0), bn(x))
    # 9 samples in groups of 4: the last one alone would become zeros, so it joins the group before.
    odd = forward_in_groups(bn, torch.cat([x, x[:1]]), 4)
    torch.testing.assert_close(odd[4:], bn(torch.cat([x[4:], x[:1]])))


def test_shuffle_restores_the_order_and_mixes_the_groups():
    x = torch.randn(12, 2)
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(forward_shuffled(nn.Identity(), x, drawn(x, generator, 4), 4), x)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(5))
    bn = nn.BatchNorm1d(2, affine=False)
    out = forward_shuffled(bn, x, drawn(x, torch.Generator().manual_seed(5), 4), 4)
    for start in (0, 4, 8):
        members = order[start : start + 4]
        torch.testing.assert_close(out[members], bn(x[members]))
    assert not torch.allclose(out, forward_in_groups(bn, x, 4))


def test_one_draw_whether_or_not_it_is_needed():
    x = torch.randn(6, 2)
    states = []
    for group in (0, 2, 6):
        generator = torch.Generator().manual_seed(1)
        drawn(x, generator, group)
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


def test_without_batch_statistics_all_clips_pass_in_one_call():
    calls = []
    plain = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.GroupNorm(1, 4), nn.ReLU())
    plain.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    slow = MomentumEncoder(plain)
    clips = [torch.randn(4, 3, 2, 6, 6) for _ in range(3)]
    shuffles = [drawn(clip, torch.Generator().manual_seed(i), 2) for i, clip in enumerate(clips)]
    apart = [forward_shuffled(slow, clip, shuffle, 2) for clip, shuffle in zip(clips, shuffles, strict=True)]
    assert calls == [4] * 3
    together = forward_each(slow, clips, shuffles, 2)
    assert calls[3:] == [12]
    for one, other in zip(apart, together, strict=True):
        torch.testing.assert_close(one, other)
    assert forward_each(slow, [], []) == []


@pytest.mark.parametrize("group", [0, 2])
def test_with_batch_statistics_each_clip_is_normalised_by_itself(group):
    slow = MomentumEncoder(nn.BatchNorm1d(2, affine=False).double())
    clips = [torch.randn(4, 2, dtype=torch.float64) + 10 * i for i in range(2)]
    shuffles = [drawn(clip, torch.Generator().manual_seed(i), group) for i, clip in enumerate(clips)]
    for i, out in enumerate(forward_each(slow, clips, shuffles, group)):
        assert torch.equal(out, forward_shuffled(slow, clips[i], shuffles[i], group))
        torch.testing.assert_close(out.mean(dim=0), torch.zeros(2, dtype=torch.float64), atol=1e-10, rtol=0)  # 10 apart
    assert torch.equal(
        torch.stack(forward_each(slow.eval(), clips, shuffles, group)), slow(torch.cat(clips)).view(2, 4, 2)
    )


class Counted(nn.Module):
    """A map [B, 2, 2] of what a batch of two channels is after BatchNorm: [x, x + the batch's first sample]."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2, affine=False)
        self.seen = []

    def forward(self, x):
        self.seen += x[:, 0].tolist()
        x = self.norm(x)
        return torch.stack([x, x + x[0]], dim=2).transpose(1, 2)  # of other strides than its shape's


def shuffle_on_rank(rank: int, size: int, count: int, seed: int, group: int) -> tuple:
    clips = torch.randn(size * count, 2, generator=torch.Generator().manual_seed(9))[rank * count :][:count]
    network = Counted()
    shuffle = drawn(clips, torch.Generator().manual_seed(seed), group)
    out = forward_shuffled(network, clips, shuffle, group)
    # The definition: everyone has all samples, computes those of its places, and everyone has all outputs.
    order = torch.randperm(size * count, generator=torch.Generator().manual_seed(seed))
    own = gather(clips)[order[rank * count :][:count]]
    expected = gather(forward_in_groups(Counted(), own, group))[order.argsort()[rank * count :][:count]]
    half = forward_shuffled(nn.Identity(), clips.bfloat16(), shuffle)
    equal = torch.equal(out, expected), torch.equal(half, clips.bfloat16())
    return *equal, network.seen == own[:, 0].tolist(), shuffle.sent


@pytest.mark.parametrize(("size", "count", "seed", "group"), [(2, 4, 5, 0), (3, 5, 1, 2)])
def test_ranks_are_sent_what_they_compute(tmp_path, size, count, seed, group):
    results = on_ranks(shuffle_on_rank, tmp_path, size, count, seed, group, size=size)
    assert all(all(result[:3]) for result in results)
    sent = torch.tensor([result[3] for result in results])
    assert sent.sum(dim=0).tolist() == sent.sum(dim=1).tolist() == [count] * size
    assert len(set(sent.flatten().tolist())) > 1  # uneven


def test_which_layers_normalise_by_their_batch():
    """In training all; else those that keep no statistics."""
    for keeps in (True, False):
        network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=keeps))
        assert uses_batch_statistics(network)
        assert uses_batch_statistics(network.eval()) != keeps
    assert not uses_batch_statistics(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
