"""The same weights at a finer temporal resolution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

STAGES = ("layer1", "layer2", "layer3", "layer4")


def temporal_halvings(backbone: nn.Module) -> list[list[nn.Conv3d]]:
    """The convolutions that halve time, by stage, from the first stage that has any to the last."""
    stages = [
        [
            module
            for module in getattr(backbone, name).modules()
            if isinstance(module, nn.Conv3d) and module.stride[0] == 2
        ]
        for name in STAGES
        if hasattr(backbone, name)
    ]
    return [stage for stage in stages if stage]


@contextmanager
def finer_in_time(backbone: nn.Module, factor: int) -> Iterator[None]:
    """Within this context the feature map has `factor` times as many temporal cells, from the same weights.

    The temporal strides of the last log2(factor) stages that halve time are 1 (Controllable Augmentations, Section 3.1:
    f and f' "share the same architecture and only differ in the temporal stride"). Networks that keep their stages as
    `layer1` to `layer4` with strides in convolutions: `r3d_18_pool`, `r3d_34_pool`, `r3d_18`, `r2plus1d_18`,
    `r3d_small`. The module is changed while the context lasts: not for several threads at a time.

    Args:
        backbone: the network.
        factor: 1, 2, 4, ..., at most 2 to the number of stages that halve time.

    Raises:
        ValueError: a factor that the network cannot have; the text names the largest.
    """
    stages = temporal_halvings(backbone)
    if factor < 1 or factor & (factor - 1) or factor > 2 ** len(stages):
        raise ValueError(
            f"finer_in_time: factor must be a power of 2 from 1 to {2 ** len(stages)} "
            f"for {getattr(backbone, 'name', type(backbone).__name__)}, got {factor}"
        )
    count = factor.bit_length() - 1
    changed = [convolution for stage in stages[len(stages) - count :] for convolution in stage]
    before = [convolution.stride for convolution in changed]
    for convolution in changed:
        convolution.stride = (1, *convolution.stride[1:])
    try:
        yield
    finally:
        for convolution, stride in zip(changed, before, strict=True):
            convolution.stride = stride
