"""Convolutions with filled channels give what plain ones do: here without a GPU, in float64."""

import copy

import pytest
import torch
from torch import nn

from motionops.models import build_backbone, gpu_convolutions
from motionops.models.backbones import BACKBONES
from motionops.models.gpu_convolutions import FilledConv3d


@pytest.fixture
def units(monkeypatch):
    """A function that has all inputs be for a GPU's units, or none."""
    return lambda on: monkeypatch.setattr(gpu_convolutions, "is_for_the_units", lambda input: on)


def gradients(network, output, weight):
    return torch.autograd.grad((output * weight).sum(), list(network.parameters()), retain_graph=True)


@pytest.mark.parametrize(("name", "training"), [("r2plus1d_18", True), ("r2plus1d_26", False)])
def test_a_network_stays_what_it_is(name, training, units):
    torch.manual_seed(0)
    plain = build_backbone(name).double().train(training)
    fitted = copy.deepcopy(plain)
    assert plain.state_dict().keys() == BACKBONES[name]().state_dict().keys()
    clip = torch.randn(2, 3, 8, 46, 49, dtype=torch.float64)
    units(False)
    expected = plain(clip)
    units(True)
    found = fitted(clip)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    weight = torch.randn_like(expected)
    pairs = zip(gradients(fitted, found, weight), gradients(plain, expected, weight), strict=True)
    for one, other in pairs:
        assert (one - other).norm() <= 1e-7 * other.norm()
    for one, other in zip(fitted.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_what_is_filled(units):
    """45, 230, 460 and 921 channels between two convolutions, and no others."""
    network = build_backbone("r2plus1d_18")
    filled = {layer.out_channels: layer.filled for layer in network.modules() if getattr(layer, "filled", 0)}
    assert filled == {45: 3, 230: 2, 460: 4, 921: 7}
    units(True)
    seen = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv3d):
            layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.shape[1]))
    network(torch.rand(2, 3, 8, 32, 32))
    assert all(channels % 8 == 0 for channels in seen)


def test_nothing_is_filled_on_the_cpu():
    network = nn.Sequential(FilledConv3d(3, 5, 1))
    network[0].filled = 3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(torch.rand(1, 3, 1, 2, 2)).shape[1] == 5
