"""BatchNorm as networks use it: with the shortcut's sum and ReLU behind it in one pass, and over groups of samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from motionops.layers.ghost_batch_norm import ghost_batch_norm, ghost_batch_norm_reference


class BatchNorm3d(nn.BatchNorm3d):
    """torch's BatchNorm3d, whose training mode is :func:`motionops.ghost_batch_norm`.

    Parameters, running statistics and results are those of torch's, but that 16-bit inputs are rounded once, behind
    the sum and ReLU, and the output's memory is channels last.

    Args:
        channels: of the input.
        relu: whether ReLU follows.

    Attributes:
        groups: samples of each group that is normalised by itself, in order; None: all are one. The running statistics
            then move once for each group, as if each had come in a call of its own. See :func:`in_groups`.
        differentiated_twice: whether its gradient will be differentiated, which the operator's cannot be: plain PyTorch
            then takes its place. See :func:`differentiable_twice_behind`.
    """

    def __init__(self, channels: int, relu: bool = False) -> None:
        super().__init__(channels)
        self.relu = relu
        self.groups: tuple[int, ...] | None = None
        self.differentiated_twice = False

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """``input [N, C, T, H, W]``, normalised; ``residual`` is added before ReLU.

        Raises:
            ValueError: in training, a group of one value a channel: it would be normalised to nothing.
        """
        self._check_input_dim(input)
        weight, bias = self.weight, self.bias
        filled = input.shape[1] - self.num_features
        if filled and self.affine:  # channels of zeros, see gpu_convolutions.py: they stay zeros
            weight, bias = functional.pad(weight, (0, filled)), functional.pad(bias, (0, filled))
        if not self.training and self.running_mean is not None:
            running = self.running_mean, self.running_var
            if filled:
                running = functional.pad(running[0], (0, filled)), functional.pad(running[1], (0, filled), value=1.0)
            output = functional.batch_norm(input, *running, weight, bias, eps=self.eps)
            if residual is not None:
                output = output + residual
            return functional.relu(output) if self.relu else output
        groups = self.groups or (input.shape[0],)
        if self.training and min(groups) * input[:1, 0].numel() == 1:
            raise ValueError(
                "BatchNorm3d: a group must have more than one value of a channel in training, got groups of "
                f"{list(groups)} samples of {list(input.shape)}"
            )
        normalise = ghost_batch_norm_reference if self.differentiated_twice else ghost_batch_norm
        output, mean, var = normalise(
            input, weight, bias, groups=groups, residual=residual, relu=self.relu, eps=self.eps
        )
        if self.training and self.track_running_stats:
            own = slice(self.num_features)
            self._move_running_statistics(mean[:, own], var[:, own], groups, input[:1, 0].numel())
        return output

    @torch.no_grad()
    def _move_running_statistics(self, mean: Tensor, var: Tensor, groups: Sequence[int], positions: int) -> None:
        """Towards the groups' statistics, one after the other: r <- (1 - m) r + m s, with the unbiased variance."""
        self.num_batches_tracked.add_(len(groups))
        # All of it on the statistics' device: numbers that come from the host would make it wait.
        if self.momentum is None:  # the mean of all that were seen
            shares = (1.0 / self.num_batches_tracked.to(mean.dtype)).expand(len(groups))
            kept = 1.0 - shares.sum()
        else:
            later = torch.arange(len(groups) - 1, -1, -1, device=mean.device, dtype=mean.dtype)
            shares = self.momentum * (1.0 - self.momentum) ** later
            kept = (1.0 - self.momentum) ** len(groups)
        counts = [samples * positions for samples in groups]
        unbiased = [count / max(count - 1, 1) for count in counts]
        alike = len(set(unbiased)) == 1
        correction = unbiased[0] if alike else torch.cat([shares.new_full((1,), value) for value in unbiased])
        for running, statistic, weights in (
            (self.running_mean, mean, shares),
            (self.running_var, var, shares * correction),
        ):
            # No matrix product: autocast would round it to 16 bits.
            running.copy_(kept * running + (weights[:, None] * statistic).sum(dim=0))


def takes_groups(network: nn.Module) -> bool:
    """Whether every BatchNorm layer of a network can normalise groups of samples apart in one call."""
    return all(isinstance(module, BatchNorm3d) for module in network.modules() if isinstance(module, _BatchNorm))


def in_groups(network: nn.Module, clips: Tensor, groups: Sequence[int]) -> Tensor:
    """``network(clips)`` with BatchNorm statistics of each group of samples, as if each came in a call of its own.

    Args:
        network: one that :func:`takes_groups`.
        clips: ``[N, ...]``.
        groups: samples of each group, in order; N in all.
    """
    layers = [module for module in network.modules() if isinstance(module, BatchNorm3d)]
    for layer in layers:
        layer.groups = tuple(groups)
    try:
        return network(clips)
    finally:
        for layer in layers:
            layer.groups = None


@contextmanager
def differentiable_twice_behind(network: nn.Module, module: nn.Module) -> Iterator[None]:
    """While it lasts, what ``network`` computes behind one of its modules can be differentiated twice."""
    layers = [layer for layer in network.modules() if isinstance(layer, BatchNorm3d)]

    def switch(on: bool) -> None:
        for layer in layers:
            layer.differentiated_twice = on

    hooks = [
        module.register_forward_hook(lambda *_: switch(True)),
        network.register_forward_hook(lambda *_: switch(False), always_call=True),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
