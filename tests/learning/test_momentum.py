"""Momentum encoder and shuffled BatchNorm."""

import pytest
import torch
from torch import nn

from motionops.learning import MomentumEncoder
from motionops.learning.momentum import forward_in_groups, forward_shuffled


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_parameters_follow_and_buffers_do_not():
    online = network()
    slow = MomentumEncoder(online, momentum=0.75)
    before = [parameter.clone() for parameter in slow.parameters()]
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.add_(1.0)
    online(torch.randn(8, 3))  # moves its running statistics
    slow.update(online)
    for own, first, other in zip(slow.parameters(), before, online.parameters(), strict=True):
        torch.testing.assert_close(own, 0.75 * first + 0.25 * other)
        assert not own.requires_grad
    assert slow.network[1].running_mean.abs().max() == 0
    assert slow.network[1].num_batches_tracked == 0
    assert online[1].running_mean.abs().max() > 0


def test_keys_have_no_gradient_and_use_their_batch():
    slow = MomentumEncoder(network())
    out = slow(torch.randn(8, 3, requires_grad=True) + 5)
    assert not out.requires_grad
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)


def test_momentum_one_and_zero_and_errors():
    online = network()
    still, copy = MomentumEncoder(online, 1.0), MomentumEncoder(online, 0.0)
    before = still.network[0].weight.clone()
    with torch.no_grad():
        online[0].weight.add_(1)
    still.update(online)
    copy.update(online)
    assert torch.equal(still.network[0].weight, before)
    torch.testing.assert_close(copy.network[0].weight, online[0].weight)
    with pytest.raises(ValueError, match=r"MomentumEncoder: momentum must be in \[0, 1\], got 1.5"):
        MomentumEncoder(online, 1.5)
    with pytest.raises(ValueError, match="network must have 4 parameters, got 2"):
        still.update(nn.Linear(3, 4))


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
    assert torch.equal(forward_shuffled(nn.Identity(), x, generator, 4), x)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(5))
    bn = nn.BatchNorm1d(2, affine=False)
    out = forward_shuffled(bn, x, torch.Generator().manual_seed(5), 4)
    for start in (0, 4, 8):
        members = order[start : start + 4]
        torch.testing.assert_close(out[members], bn(x[members]))
    assert not torch.allclose(out, forward_in_groups(bn, x, 4))


def test_one_draw_whether_or_not_it_is_needed():
    x = torch.randn(6, 2)
    states = []
    for group in (0, 2, 6):
        generator = torch.Generator().manual_seed(1)
        forward_shuffled(nn.Identity(), x, generator, group)
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])
