"""How networks and losses are computed: compiled (--compile), and in which arithmetic (--precision)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from motionops.commandline import say
from motionops.models import BACKBONES
from motionops.models.bfloat16_convolutions import float32_where_wrong
from motionops.models.pathway import Pathway
from motionops.training.method import Method

BACKEND = "inductor"


def backbones(module: Method) -> dict[str, nn.Module]:
    """The backbones inside a method, a user's own and momentum copies too: name -> network."""
    kinds = tuple(BACKBONES.values())
    paths = [path for path in module.modules() if isinstance(path, Pathway)]
    given = [module.backbone, *(network for path in paths for network in (path.backbone, path.key_backbone.network))]
    return {
        name: network
        for name, network in module.named_modules()
        if isinstance(network, kinds) or any(network is own for own in given)
    }


def compiles_whole(module: Method, processes: int = 1) -> bool:
    """Whether --compile makes one graph of a step's `losses`; else it makes one of each backbone.

    Several processes speak to each other inside the step, and --profile times networks and operators one by one.
    """
    return module.one_graph() and processes == 1 and not module.config.profile


@contextmanager
def compiled(module: Method, processes: int = 1) -> Iterator[None]:
    """`losses` runs compiled while the context lasts, as one graph: networks, heads and our operators in it.

    Where that cannot be (`compiles_whole`) backbones do, each as one graph, but those that the module names in
    `not_compiled`. Names and weights stay what they were, and so do random draws.
    """
    from torch._dynamo import config as dynamo
    from torch._inductor import config as inductor

    # DistributedDataParallel's buckets would cut the graphs; GRUs are left out by default.
    options = dynamo.patch(optimize_ddp=False, allow_rnn=True)
    whole = compiles_whole(module, processes)
    networks = [] if whole else [net for name, net in backbones(module).items() if name not in module.not_compiled()]
    with options, inductor.patch(fallback_random=True):
        if whole:
            module.losses = torch.compile(module.losses, backend=BACKEND, fullgraph=True)
        for network in networks:
            network.compile(backend=BACKEND, fullgraph=True)
        try:
            yield
        finally:
            if whole:
                del module.losses  # the class's own is there again
            for network in networks:
                network._compiled_call_impl = None  # torch has no public way back


@contextmanager
def right_convolutions(module: nn.Module, tell: bool) -> Iterator[None]:
    """Convolutions that bfloat16 gets wrong on this CPU are float32's while the context lasts; a line says so."""
    with float32_where_wrong(module) as found:
        if found and tell:
            lengths = ", ".join(map(str, sorted(set().union(*found.values()))))
            say(
                f"--precision bf16-mixed: convolutions run in float32 where they get {lengths} frames; in bfloat16 "
                "this torch computes them wrongly on this processor"
            )
        yield
