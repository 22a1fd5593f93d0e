"""What a network's last convolution gave, and nothing afterwards."""

import pytest
import torch
from torch import nn

from motionops.layers.batch_norm import BatchNorm3d
from motionops.methods.mcl.recording import recorded


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.last_convolution, self.norm, self.last = nn.Conv3d(3, 4, 1), BatchNorm3d(4, relu=True), nn.Conv3d(4, 2, 1)

    def forward(self, clip):
        return self.last(self.norm(self.last_convolution(clip)))


def test_outputs_of_every_call_with_their_graphs():
    torch.manual_seed(0)
    network = Small().eval()
    with recorded(network) as outputs:
        first, second = network(torch.rand(5, 3, 1, 2, 2)), network(torch.rand(6, 3, 1, 2, 2))
    network(torch.rand(7, 3, 1, 2, 2))
    assert [len(output) for output in outputs] == [5, 6]
    gradients = torch.autograd.grad(first.sum() + second.sum(), outputs, create_graph=True)
    slope = network.norm.weight / (network.norm.running_var + network.norm.eps).sqrt()
    expected = (outputs[0] > 0) * (slope * network.last.weight.sum(dim=0).flatten()).view(4, 1, 1, 1)
    torch.testing.assert_close(gradients[0], expected)


def test_a_gradient_behind_it_can_be_differentiated_again_in_training():
    torch.manual_seed(0)
    network = Small().double().train()
    clip = torch.rand(3, 3, 2, 2, 2, dtype=torch.float64)

    def gradient(bias):
        with torch.no_grad():
            network.norm.bias.fill_(bias)
        with recorded(network) as outputs:
            features = network(clip)
        return torch.autograd.grad(features.square().sum(), outputs, create_graph=True)[0]

    (found,) = torch.autograd.grad(gradient(2.0).square().sum(), network.norm.bias)
    step = 1e-6  # the derivative along all biases, by its definition
    difference = (gradient(2.0 + step).square().sum() - gradient(2.0 - step).square().sum()) / (2 * step)
    torch.testing.assert_close(found.sum(), difference.detach(), rtol=1e-6, atol=1e-8)
    outputs = network.last_convolution(clip)
    (grad,) = torch.autograd.grad(network.norm(outputs).square().sum(), outputs, create_graph=True)
    with pytest.raises(RuntimeError, match="ghost_batch_norm: its gradient cannot be differentiated again"):
        grad.square().sum().backward()


def test_the_hooks_go_when_the_network_fails():
    network = Small()
    with pytest.raises(RuntimeError), recorded(network):
        network(torch.rand(5, 2, 1, 1, 1))
    assert not network.last_convolution._forward_hooks
    assert not network._forward_hooks
    assert not network.norm.differentiated_twice
