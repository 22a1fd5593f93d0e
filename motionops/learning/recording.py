"""The output of a module inside a network, without changing the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def recorded(module: nn.Module) -> Iterator[list[Tensor]]:
    """The outputs of `module` while the context lasts, one for each call, with their graphs::

    with recorded(backbone.last_convolution) as outputs:
        features = backbone(clip)
    (gradient,) = torch.autograd.grad(similarity(features), outputs, create_graph=True)
    """
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
