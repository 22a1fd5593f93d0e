"""What a module inside a network gave, and nothing afterwards."""

import pytest
import torch
from torch import nn

from motionops.learning.recording import recorded


def test_outputs_of_every_call_with_their_graphs():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with recorded(network[0]) as outputs:
        first, second = network(torch.rand(5, 3)), network(torch.rand(6, 3))
    network(torch.rand(7, 3))
    assert [len(output) for output in outputs] == [5, 6]
    gradients = torch.autograd.grad(first.sum() + second.sum(), outputs, create_graph=True)
    expected = (outputs[0] > 0) * network[2].weight.sum(dim=0)
    torch.testing.assert_close(gradients[0], expected)


def test_the_hook_goes_when_the_network_fails():
    network = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises(RuntimeError), recorded(network[0]):
        network(torch.rand(5, 2))
    assert not network[0]._forward_hooks
