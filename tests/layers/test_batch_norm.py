"""BatchNorm3d of motionops.models beside torch's, and groups of samples in one call beside calls of their own."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models.video import r2plus1d_18 as torchvision_r2plus1d_18

from motionops.layers.batch_norm import BatchNorm3d, in_groups, takes_groups
from motionops.models import build_backbone
from motionops.models.backbones import BACKBONES


def pair(channels=6, **settings):
    """Ours with ReLU and torch's, with the same parameters in float64."""
    torch.manual_seed(0)
    theirs = nn.BatchNorm3d(channels).double()
    nn.init.uniform_(theirs.weight, 0.5, 1.5)
    nn.init.normal_(theirs.bias)
    ours = BatchNorm3d(channels, relu=True).double()
    ours.load_state_dict(theirs.state_dict())
    for name, value in settings.items():
        setattr(ours, name, value)
        setattr(theirs, name, value)
    return ours, theirs


def assert_same_statistics(ours, theirs):
    for name, value in theirs.named_buffers():
        torch.testing.assert_close(dict(ours.named_buffers())[name], value, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_it_is_torchs_with_the_sum_and_relu_behind(training, momentum):
    ours, theirs = (norm.train(training) for norm in pair(momentum=momentum))
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        clip, shortcut = torch.randn(2, 4, 6, 2, 3, 3, generator=generator, dtype=torch.float64)
        expected = functional.relu(theirs(clip) + shortcut)
        torch.testing.assert_close(ours(clip, shortcut), expected, rtol=1e-12, atol=1e-12)
    assert_same_statistics(ours, theirs)


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize("groups", [(2, 2, 2), (3, 2, 1)])
def test_groups_in_one_call_are_calls_of_their_own(groups, momentum):
    """Also for the running statistics, which move once for each, by its own unbiased variance."""
    ours, theirs = pair(momentum=momentum)
    clip = torch.randn(6, 6, 2, 3, 3, dtype=torch.float64) + 10 * torch.rand(6, 1, 1, 1, 1, dtype=torch.float64)
    together = in_groups(ours, clip, groups)
    apart = torch.cat([functional.relu(theirs(part)) for part in clip.split(groups)])
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)
    assert_same_statistics(ours, theirs)
    assert ours.groups is None  # a call of its own is one group again
    torch.testing.assert_close(ours(clip), functional.relu(theirs(clip)), rtol=1e-12, atol=1e-12)


def test_statistics_of_one_value_are_refused_as_torch_does():
    ours, theirs = pair()
    clips = torch.rand(3, 6, 1, 1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        theirs(clips[:1])
    with pytest.raises(ValueError, match=r"more than one value of a channel in training, got groups of \[2, 1\]"):
        in_groups(ours, clips, [2, 1])
    with pytest.raises(ValueError, match="more than one value of a channel"):
        ours(clips[:1])
    assert ours.eval()(clips[:1]).shape == (1, 6, 1, 1, 1)


def test_groups_are_forgotten_when_the_network_fails():
    network = nn.Sequential(BatchNorm3d(6), nn.Conv3d(5, 2, 1))
    with pytest.raises(RuntimeError):
        in_groups(network, torch.rand(4, 6, 1, 1, 1), [2, 2])
    assert network[0].groups is None


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_take_groups(name):
    assert takes_groups(build_backbone(name))
    assert not takes_groups(nn.Sequential(BatchNorm3d(3), nn.BatchNorm3d(3)))


def test_a_backbone_is_torchvisions():
    """Its blocks, whose sums and ReLUs are in their BatchNorms: outputs, gradients, running statistics, and names."""
    torch.manual_seed(0)
    theirs = torchvision_r2plus1d_18(weights=None)
    theirs.fc = nn.Identity()
    ours = build_backbone("r2plus1d_18")
    ours.load_state_dict(theirs.state_dict())
    theirs, ours = theirs.double().train(), ours.double().train()
    clip = torch.randn(3, 3, 4, 32, 32, dtype=torch.float64)
    features, expected = ours(clip).mean(dim=(2, 3, 4)), theirs(clip)
    torch.testing.assert_close(features, expected, rtol=1e-9, atol=1e-9)
    weight = torch.randn_like(expected)
    found = torch.autograd.grad((features * weight).sum(), list(ours.parameters()))
    wanted = torch.autograd.grad((expected * weight).sum(), list(theirs.parameters()))
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() <= 1e-9 * other.norm()
    assert_same_statistics(ours, theirs)


def test_a_copy_is_a_network_of_its_own():
    """As momentum encoders make it: its layers must not be the original's."""
    network = build_backbone("r3d_small").train()
    twin = copy.deepcopy(network)
    in_groups(twin, torch.randn(4, 3, 4, 16, 16), [2, 2])
    for one, other in zip(network.buffers(), build_backbone("r3d_small").buffers(), strict=True):
        assert torch.equal(one, other)
    assert all(norm.num_batches_tracked == 2 for norm in twin.modules() if isinstance(norm, BatchNorm3d))


def test_running_statistics_stay_float32_under_autocast():
    torch.manual_seed(0)
    plain, cast = BatchNorm3d(3), BatchNorm3d(3)
    clip = torch.randn(4, 3, 2, 3, 3).bfloat16()
    in_groups(plain, clip, [2, 2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        in_groups(cast, clip, [2, 2])
    assert_same_statistics(cast, plain)
