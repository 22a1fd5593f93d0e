"""The output of a network's last convolution, without changing the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from motionops.layers.batch_norm import differentiable_twice_behind


@contextmanager
def recorded(network: nn.Module) -> Iterator[list[Tensor]]:
    """The outputs of `network.last_convolution` while the context lasts, one for each call, with their graphs.

    Of a network that names no such layer they are its own outputs. Gradients with respect to them can be differentiated
    again::

    with recorded(backbone) as outputs:
        features = backbone(clip)
    (gradient,) = torch.autograd.grad(similarity(features), outputs, create_graph=True)
    """
    outputs: list[Tensor] = []
    module = getattr(network, "last_convolution", network)
    handle = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        with differentiable_twice_behind(network, module):
            yield outputs
    finally:
        handle.remove()
