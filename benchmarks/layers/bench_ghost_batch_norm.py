"""ghost_batch_norm beside torch's batch norm of each group, eager and compiled."""

import pytest
import torch
import torch.nn.functional as F

from motionops.layers.ghost_batch_norm import ghost_batch_norm, ghost_batch_norm_reference
from tests.layers.samples import features_sample

# Behind convolutions of R(2+1)D-18, for 48 clips of 16 x 112 x 112 in groups of 8: first stage, between its two
# convolutions, third and last stage.
ON_A_GPU = [(48, 64, 16, 56, 56), (48, 144, 16, 56, 56), (48, 256, 4, 14, 14), (48, 512, 2, 7, 7)]
# Behind those of the demo's network, for 64 clips of 8 x 32 x 32.
ON_A_CPU = [(64, 16, 8, 16, 16), (64, 64, 4, 8, 8)]
GROUP = 8
NEAR_ZERO = 0.05  # more than 16-bit results are rounded by


def arguments(comparison, shape, dtype, residual, gradients):
    device = comparison.device
    given = {
        "input": features_sample(*shape, dtype=dtype).to(device),
        "weight": torch.rand(shape[1]).to(device) + 0.5,
        "bias": torch.randn(shape[1]).to(device),
    }
    if residual:
        given["residual"] = features_sample(*shape, dtype=dtype, seed=1).to(device)
    return {name: value.requires_grad_() if gradients else value for name, value in given.items()}


def each_group(input, weight, bias, residual=None):
    """torch's, as networks call it: a call for each group, then the sum and ReLU."""
    parts = [F.batch_norm(part, None, None, weight, bias, True) for part in input.split(GROUP)]
    output = torch.cat(parts)
    return F.relu(output if residual is None else output + residual)


def ours(**given):
    groups = [GROUP] * (given["input"].shape[0] // GROUP)
    return ghost_batch_norm(**given, groups=groups, relu=True).output


def reference(**given):
    groups = [GROUP] * (given["input"].shape[0] // GROUP)
    return ghost_batch_norm_reference(**given, groups=groups, relu=True).output


def shapes(comparison):
    return ON_A_GPU if comparison.device.type == "cuda" else ON_A_CPU


@pytest.mark.parametrize("gradients", [False, True], ids=["forward", "forward and backward"])
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("number", range(len(ON_A_GPU)))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
def bench_behind_a_convolution(comparison, dtype, number, residual, gradients):
    if number >= len(shapes(comparison)) or (residual and number > 0):
        pytest.skip("one residual row is enough, and the CPU has two shapes")
    shape = shapes(comparison)[number]
    given = arguments(comparison, shape, dtype, residual, gradients)
    cotangent = features_sample(*shape, dtype=dtype, seed=2).to(comparison.device) if gradients else None
    if gradients:  # near 0 rounding decides what ReLU lets through
        cotangent = torch.where(reference(**given).detach().abs() > NEAR_ZERO, cotangent, 0)

    def step(function):
        if not gradients:
            return lambda: function(**given)
        return lambda: torch.autograd.grad(function(**given), list(given.values()), cotangent)

    passes = (3 + residual) + gradients * (5 + 2 * residual)
    comparison(
        f"{shape} {str(dtype).removeprefix('torch.')}, groups of {GROUP}{', residual' if residual else ''}"
        f"{', forward + backward' if gradients else ''}",
        ours=step(ours),
        reference=step(reference),
        peers={"eager, each group": step(each_group), "torch.compile": step(torch.compile(each_group, dynamic=False))},
        rtol=1e-3 if dtype == torch.float32 else 2e-2,
        moved_bytes=passes * given["input"].numel() * given["input"].element_size(),
    )
