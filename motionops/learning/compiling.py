"""torch.compile for the networks of a method: --compile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from motionops.models import BACKBONES

BACKEND = "inductor"


def backbones(module: nn.Module) -> dict[str, nn.Module]:
    """The backbones inside a module, momentum copies too: name -> network."""
    kinds = tuple(BACKBONES.values())
    return {name: network for name, network in module.named_modules() if isinstance(network, kinds)}


@contextmanager
def compiled(module: nn.Module) -> Iterator[None]:
    """Backbones run compiled while the context lasts, each as one graph; names and weights stay what they were.

    What the module names in `not_compiled` stays as it is.
    """
    networks = [network for name, network in backbones(module).items() if name not in module.not_compiled()]
    for network in networks:
        network.compile(backend=BACKEND, fullgraph=True)
    try:
        yield
    finally:
        for network in networks:
            network._compiled_call_impl = None  # torch has no public way back
