"""The end of an Inception network, where four branches' last convolutions make up one map."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]


def convolve_joined(
    joined: nn.Module, inputs: Sequence[Tensor], convolutions: Sequence[Function], finish: Sequence[Function]
) -> Tensor:
    """Branches whose convolutions' outputs pass through one module together, before they are normalised.

    A gradient with respect to "the last convolution" (Grad-CAM, MCL) is then one tensor: the output of `joined`.

    Args:
        joined: `nn.Identity()`; a hook on it sees the outputs of all branches, concatenated over channels.
        inputs, convolutions, finish: of each branch its input, its last convolution, and what follows it.

    Returns:
        What the branches give, concatenated over channels.
    """
    outputs = [convolution(given) for convolution, given in zip(convolutions, inputs, strict=True)]
    parts = joined(torch.cat(outputs, dim=1)).split([output.shape[1] for output in outputs], dim=1)
    return torch.cat([function(part) for function, part in zip(finish, parts, strict=True)], dim=1)
