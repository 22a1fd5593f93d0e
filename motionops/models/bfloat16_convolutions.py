"""Convolutions over time that this machine's CPU computes wrongly in bfloat16, and their way out: float32.

torch 2.14.1 (oneDNN 3.12) gives a wrong gradient of the weights, on processors with AVX-512 but without AMX (by its
source; seen with avx512_bf16), where the clip is shorter than the kernel and padded on both sides: 3 x 3 x 3 and
3 x 1 x 1 kernels at 2 frames, which the last stage of many networks sees. While the kernel leaves the padding in front,
oneDNN's loop over output frames (`compute_od_loop_common` in jit_avx512_core_bf16_conv_kernel.cpp) must stay at the
first input frame; the kernels for float32 and AMX jump over the step to the next one, the one for bfloat16 takes it. So
outputs meet the wrong frames, in every call and for any number of channels, pictures and layout: the gradient is off by
tens of per cent. And the last frame is read behind the clip, where there may be a NaN: that part comes and goes.

Which kernel a machine takes is torch's choice. So it is asked, by a small clip of each length.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

# oneDNN computes channels in blocks, one like the other but the last, and has a kernel of its own for few.
BLOCK = 16

# Relative to its length. Inputs are exact, so a right result is off by the rounding of sums, 2^-9 each (0.009 was the
# most seen); of two independent frames the wrong gradient is off by sqrt(3) / 2.
OFF = 2.0**-5


def wrong_lengths(layer: nn.Conv3d) -> tuple[int, ...]:
    """Frames of the clips whose convolution or gradients on the CPU are not float64's, as far as bfloat16 goes.

    Both with the layer's own stride in time and with 1, which `finer_in_time` gives it. Weights are not looked at.
    """
    strides = {layer.stride, (1, *layer.stride[1:])}
    channels = (layer.in_channels, layer.out_channels)
    if layer.groups == 1:
        channels = tuple(n if n < 3 * BLOCK else 2 * BLOCK + n % BLOCK for n in channels)
    shape = (*channels, layer.kernel_size, layer.padding, layer.dilation, layer.groups, layer.bias is not None)
    return tuple(sorted(set().union(*(_wrong_lengths(*shape, layer.padding_mode, stride) for stride in strides))))


@cache
def _wrong_lengths(inputs, outputs, kernel, padding, dilation, groups, bias, mode, stride) -> frozenset[int]:
    with torch.device("meta"):  # no weights, and no random numbers drawn
        layer = nn.Conv3d(inputs, outputs, kernel, stride, padding, dilation, groups, bias, mode)
    spans = [step * (size - 1) + 1 for step, size in zip(dilation, kernel, strict=True)]
    shortest = max(1, spans[0] - sum(layer._reversed_padding_repeated_twice[-2:]))
    # With several threads each may get a single output frame, which hides the fault.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        picture = [span + step for span, step in zip(spans[1:], stride[1:], strict=True)]
        # A clip longer than the kernel has frames in the middle, one more or less; they are computed alike.
        lengths = range(shortest, 2 * spans[0] + 1)
        return frozenset(frames for frames in lengths if _is_wrong(layer, (1, inputs, frames, *picture)))
    finally:
        torch.set_num_threads(threads)


def _is_wrong(layer: nn.Conv3d, clip: tuple[int, ...]) -> bool:
    shapes = [clip, layer.weight.shape, *([] if layer.bias is None else [layer.bias.shape])]
    given = [_drawn(shape, seed) for seed, shape in enumerate(shapes)]

    def results(dtype: torch.dtype) -> list[Tensor]:
        x, weight, *bias = leaves = [tensor.to(dtype).requires_grad_() for tensor in given]
        y = layer._conv_forward(x, weight, *(bias or [None]))
        return [y.detach(), *torch.autograd.grad(y, leaves, _drawn(y.shape, len(shapes)).to(dtype))]

    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        pairs = list(zip(results(torch.bfloat16), results(torch.float64), strict=True))
    # Not `>`: a NaN is wrong too.
    return not all((rounded.double() - exact).norm() <= OFF * exact.norm() for rounded, exact in pairs)


def _drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    """A tensor of bfloat16, in the memory format that training gives networks and clips."""
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()
    return tensor.contiguous(memory_format=torch.channels_last_3d) if tensor.ndim == 5 else tensor


@contextmanager
def float32_where_wrong(network: nn.Module) -> Iterator[dict[str, tuple[int, ...]]]:
    """Within this context convolutions under bfloat16 autocast on the CPU compute wrong lengths in float32.

    Their outputs are rounded to bfloat16 as before, so that nothing else changes; names and weights stay what they are.
    It takes part in torch.compile. The network is changed while the context lasts.

    Yields:
        For each such layer, by its name, the frames of the clips that it computes in float32.
    """
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv3d)}
    found = {name: lengths for name, layer in layers.items() if (lengths := wrong_lengths(layer))}
    for name, lengths in found.items():
        layers[name]._conv_forward = _with_float32(layers[name]._conv_forward, lengths)
    try:
        yield found
    finally:
        for name in found:
            del layers[name]._conv_forward  # the class's own is there again


def _with_float32(convolve, lengths: tuple[int, ...]):
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.shape[-3] not in lengths or not torch.is_autocast_enabled("cpu"):
            return convolve(x, weight, bias)
        with torch.autocast("cpu", enabled=False):
            return convolve(x.float(), weight.float(), None if bias is None else bias.float()).bfloat16()

    return forward
