"""The momentum encoder, and a momentum that changes."""

import pytest
import torch
from torch import nn

from motionops import MomentumEncoder, cosine_momentum


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
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\], got -0.1"):
        still.update(online, momentum=-0.1)


def test_a_step_has_a_momentum_of_its_own():
    online = network()
    slow = MomentumEncoder(online, momentum=0.75)
    before = slow.network[0].weight.clone()
    with torch.no_grad():
        online[0].weight.add_(1.0)
    slow.update(online, momentum=0.5)
    torch.testing.assert_close(slow.network[0].weight, before + 0.5)
    slow.update(online)
    torch.testing.assert_close(slow.network[0].weight, before + 0.625)


def test_the_cosine_rises_from_start_to_end():
    """At a third of the way cos(pi / 3) = 1 / 2: three quarters of the difference are left."""
    assert cosine_momentum(0, 90, start=0.9) == pytest.approx(0.9)
    assert cosine_momentum(30, 90, start=0.9) == pytest.approx(1 - 0.075)
    assert cosine_momentum(45, 90, start=0.9, end=0.98) == pytest.approx(0.94)
    assert cosine_momentum(90, 90, start=0.9) == cosine_momentum(91, 90, start=0.9) == 1.0
    for wrong, message in (
        ({"steps": 0}, "steps must be >= 1"),
        ({"start": 1.2}, "start must be in"),
        ({"end": -1}, "end"),
    ):
        with pytest.raises(ValueError, match=f"cosine_momentum: {message}"):
            cosine_momentum(**{"step": 1, "steps": 9, **wrong})
