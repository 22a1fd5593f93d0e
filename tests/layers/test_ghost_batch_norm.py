"""ghost_batch_norm on every backend."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

from motionops.layers.ghost_batch_norm import ghost_batch_norm, ghost_batch_norm_reference
from tests.layers.samples import features_sample

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# (shape, groups): one value and one channel, tails beside the 16-byte accesses, channels that do not fill them (rows of
# several positions, and where groups do not divide into such rows), tiles of columns, several chunks of rows, lanes
# without a row, groups of different sizes
CASES = {
    "two values": ((2, 1), [2]),
    "one channel": ((3, 1, 4), [3]),
    "one position": ((6, 5), [4, 2]),
    "odd channels": ((4, 5, 2, 4, 4), [2, 2]),
    "odd channels, odd rows": ((5, 7, 3, 3, 3), [2, 3]),
    "16 bytes of channels": ((4, 16, 2, 3, 3), [1, 3]),
    "many groups": ((7, 8, 3, 5, 5), [1] * 7),
    "a tile": ((2, 144, 1, 3, 3), [2]),
    "tiles of columns": ((3, 1160, 1, 2, 2), [1, 2]),
    "odd tiles": ((8, 921, 1, 2, 2), [8]),
    "chunks of rows": ((3, 24, 4, 40, 40), [2, 1]),
    "one channel, many rows": ((2, 1, 5, 60, 60), [1, 1]),
}
ENDS = [(False, False), (True, False), (False, True), (True, True)]  # residual, relu


def sample(case, dtype, residual, layout="channels last"):
    """The arguments of a call, and the weights of a sum over its output."""
    shape, groups = CASES[case]
    generator = torch.Generator().manual_seed(len(case))
    kept = torch.float64 if dtype == torch.float64 else torch.float32
    given = {
        "input": features_sample(*shape, dtype=dtype, layout=layout),
        "weight": torch.rand(shape[1], generator=generator, dtype=torch.float64).to(kept) + 0.5,
        "bias": torch.randn(shape[1], generator=generator, dtype=torch.float64).to(kept),
    }
    if residual:
        given["residual"] = features_sample(*shape, dtype=dtype, layout=layout, seed=1)
    cotangent = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return given, groups, cotangent


def results(function, given, groups, cotangent, **arguments):
    """Output, statistics, and the gradients of sum(cotangent · output) with respect to all tensors."""
    leaves = {n: v.detach().clone(memory_format=torch.preserve_format).requires_grad_() for n, v in given.items()}
    output, mean, var = function(**leaves, groups=groups, **arguments)
    grads = torch.autograd.grad(output, list(leaves.values()), cotangent.to(output))
    named = {"output": output, "mean": mean, "var": var}
    return {n: v.detach() for n, v in named.items()} | {f"grad {n}": g for n, g in zip(leaves, grads, strict=True)}


def on(backend, given):
    return {name: backend.tensor(value) for name, value in given.items()}


def root_mean_square(values):
    return float(values.double().square().mean().sqrt())


def unless_at_zero(given, groups, relu):
    """What of the outputs is so far from 0 that rounding cannot change what ReLU lets through."""
    if not relu:
        return 1.0
    truth = ghost_batch_norm_reference(**{n: v.double() for n, v in given.items()}, groups=groups).output
    return (truth.abs() > 0.02).double()


@pytest.mark.every_simd_target
@pytest.mark.parametrize(("residual", "relu"), ENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_error_budget(backend, case, dtype, residual, relu):
    """As near to float64 as the reference in the type, of which 16-bit types are float32's, rounded once."""
    given, groups, cotangent = sample(case, dtype, residual)
    cotangent = (cotangent.double() * unless_at_zero(given, groups, relu)).to(dtype)
    wide = {name: value.double() for name, value in given.items()}
    truth = results(ghost_batch_norm_reference, wide, groups, cotangent.double(), relu=relu)
    reference = results(ghost_batch_norm_reference, given, groups, cotangent, relu=relu)
    ours = results(ghost_batch_norm, on(backend, given), groups, backend.tensor(cotangent), relu=relu)
    # What sums are rounded beside: their parts, as the sums themselves may be near 0.
    parts = (given["input"].numel() / max(1, given["weight"].numel())) ** 0.5 * root_mean_square(cotangent)
    typical = {"mean": root_mean_square(given["input"]), "grad weight": parts, "grad bias": parts}
    typical["grad input"] = root_mean_square(cotangent) * float(given["weight"].max() / truth["var"].max().sqrt())
    for name, true in truth.items():
        found = ours[name]
        assert found.dtype == reference[name].dtype
        assert found.shape == true.shape
        if dtype == torch.float64:  # the reference is the truth, up to the order of sums
            torch.testing.assert_close(found.cpu(), true, rtol=1e-11, atol=1e-11, msg=name)
            continue
        eps, root = torch.finfo(found.dtype).eps, max(1, true.numel()) ** 0.5
        error, budget = (found.cpu().double() - true).norm(), (reference[name].double() - true).norm()
        # Of each value. One pass over the values rounds by 1 + (distance of the first one / deviation)^2 units more,
        # and sums of 64 and more values before they are merged by up to a root of as many.
        unit = 8 * eps * max(true.norm(), typical.get(name, 0.0) * root)
        assert error <= 2 * budget + unit, f"{name}: off by {error:.3g}, the reference by {budget:.3g}"
        most, allowed = ((value.double().cpu() - true).abs().max() for value in (found, reference[name]))
        allowed = 4 * allowed + 4 * max(unit / root, 4 * eps * true.abs().max())
        assert most <= allowed, f"{name}: off by {most:.3g}, allowed {allowed:.3g}"


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("case", ["odd channels", "16 bytes of channels", "chunks of rows"])
def test_equals_torchs_batch_norm_of_each_group(backend, case, relu):
    """An independent implementation, a call for each group."""
    given, groups, cotangent = sample(case, torch.float64, residual=True)

    def apart(input, weight, bias, residual, groups, relu):
        parts = [F.batch_norm(part, None, None, weight, bias, True, 0.1, 1e-5) for part in input.split(groups)]
        output = torch.cat(parts) + residual
        means = torch.stack([part.transpose(0, 1).flatten(1).mean(dim=1) for part in input.split(groups)])
        return output.relu() if relu else output, means, means

    expected = results(apart, given, groups, cotangent, relu=relu)
    found = results(ghost_batch_norm, on(backend, given), groups, backend.tensor(cotangent), relu=relu)
    for name in set(expected) - {"var"}:
        torch.testing.assert_close(found[name].cpu(), expected[name], rtol=1e-10, atol=1e-10, msg=name)


def test_memory_that_is_not_aligned(backend):
    """A view that begins 4 bytes behind an aligned address is read by single elements."""
    input = features_sample(4, 8, 2, 3, 3)
    shifted = backend.tensor(torch.empty(input.numel() + 1))[1:].view(4, 2, 3, 3, 8).movedim(-1, 1)
    shifted.copy_(input)
    torch.testing.assert_close(
        ghost_batch_norm(shifted, groups=[1, 3]).output.cpu(), ghost_batch_norm_reference(input, groups=[1, 3]).output
    )


def exact_moments(values):
    """Mean and variance in exact arithmetic."""
    numbers = [Fraction(float(value)) for value in values]
    mean = sum(numbers) / len(numbers)
    return float(mean), float(sum((number - mean) ** 2 for number in numbers) / len(numbers))


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e5])
def test_a_mean_far_from_zero_leaves_the_variance(backend, mean):
    """Float32 values 2^-3 apart about 1e5: their squares would need 40 bits."""
    generator = torch.Generator().manual_seed(0)
    input = (torch.randint(-8, 9, (2, 3, 5, 6, 7), generator=generator) / 8 + mean).float()
    _, means, variances = ghost_batch_norm(backend.tensor(input), groups=[1, 1])
    for group in range(2):
        for channel in range(3):
            true_mean, true_variance = exact_moments(input[group, channel].flatten())
            assert float(means[group, channel]) == pytest.approx(true_mean, rel=2e-7, abs=2e-7)
            assert float(variances[group, channel]) == pytest.approx(true_variance, rel=2e-6)


@pytest.mark.parametrize("place", [0, 1, 999])
def test_an_outlier_leaves_the_variance(backend, place):
    """Also where it is the value from which a thread measures: then all squares in its sum are as large as its own."""
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    values[place] = 3e3
    _, mean, var = ghost_batch_norm(backend.tensor(values.view(1, 1, 1000)))
    true_mean, true_variance = exact_moments(values)
    assert float(mean) == pytest.approx(true_mean, abs=1e-5 * true_variance**0.5)
    assert float(var) == pytest.approx(true_variance, rel=1e-4)


def test_values_by_hand(backend):
    """Two groups of (0, 2) and (4, 10): means 1 and 7, variances 1 and 9."""
    input = torch.tensor([[0.0], [2.0], [4.0], [10.0]])
    residual = torch.tensor([[3.0], [0.0], [-3.0], [-3.0]])
    given = backend.tensor(input), backend.tensor(torch.tensor([2.0])), backend.tensor(torch.tensor([0.5]))
    output, mean, var = ghost_batch_norm(*given, groups=[2, 2], eps=0.0)
    assert output.flatten().tolist() == [-1.5, 2.5, -1.5, 2.5]
    assert (mean.flatten().tolist(), var.flatten().tolist()) == ([1.0, 7.0], [1.0, 9.0])
    output = ghost_batch_norm(*given, groups=[2, 2], eps=0.0, residual=backend.tensor(residual), relu=True).output
    assert output.flatten().tolist() == [1.5, 2.5, 0.0, 0.0]


def test_one_value_becomes_the_bias(backend):
    input, bias = torch.tensor([[7.0, -3.0]]), torch.tensor([0.25, -2.0])
    output, mean, var = ghost_batch_norm(backend.tensor(input), bias=backend.tensor(bias))
    assert output.tolist() == [[0.25, -2.0]]
    assert (mean.tolist(), var.tolist()) == ([[7.0, -3.0]], [[0.0, 0.0]])


def test_nothing(backend):
    for shape in ((0, 3, 2), (2, 0, 2), (2, 3, 0)):
        input = backend.tensor(torch.empty(shape)).requires_grad_()
        weight = backend.tensor(torch.ones(shape[1])).requires_grad_()
        output, mean, var = ghost_batch_norm(input, weight)
        assert output.shape == shape
        assert mean.shape == var.shape == (min(shape[0], 1), shape[1])
        grads = torch.autograd.grad(output.sum(), [input, weight])
        assert grads[0].shape == shape
        assert (grads[1] == 0).all()


@pytest.mark.every_simd_target
def test_special_values(backend):
    """A NaN takes its own channel of its own group with it, also through ReLU, and nothing else."""
    input = features_sample(4, 3, 2, 2, 2)
    input[0, 1, 0, 0, 0] = float("nan")
    input[2, 2, 1, 0, 1] = float("inf")
    output, mean, _ = ghost_batch_norm(backend.tensor(input), groups=[2, 2], relu=True)
    expected = ghost_batch_norm_reference(input, groups=[2, 2], relu=True)
    assert torch.equal(output.cpu().isnan(), expected.output.isnan())
    assert output.isnan().sum() == 2 * 2 * 8
    torch.testing.assert_close(mean.cpu(), expected.mean, equal_nan=True)
    torch.testing.assert_close(output.cpu().nan_to_num(), expected.output.nan_to_num())


@pytest.mark.every_simd_target
@pytest.mark.parametrize(("residual", "relu"), ENDS)
@pytest.mark.parametrize("case", ["odd channels, odd rows", "16 bytes of channels"])
def test_gradcheck(backend, case, residual, relu):
    given, groups, _ = sample(case, torch.float64, residual)
    small = {name: value[..., :2] if value.ndim > 1 else value for name, value in given.items()}
    leaves = [backend.tensor(value).detach().clone().requires_grad_() for value in small.values()]

    def function(*tensors):
        return ghost_batch_norm(**dict(zip(small, tensors, strict=True)), groups=groups, relu=relu).output

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


def test_the_raw_operator_checks_the_layout(backend):
    input = backend.tensor(torch.rand(2, 3, 4))
    with pytest.raises(ValueError, match="ghost_batch_norm: input must be dense with its channels last in memory"):
        backend.ops.ghost_batch_norm(input, None, None, None, [2], 1e-5, False)


@pytest.mark.parametrize("count", [240, 241, 500])
def test_more_groups_than_a_launch_takes(backend, count):
    """240 are among a kernel's parameters; gradients of weights are summed over the launches."""
    input = features_sample(2 * count, 3, 2, dtype=torch.float64)
    given = {"input": input, "weight": torch.rand(3, dtype=torch.float64), "bias": torch.rand(3, dtype=torch.float64)}
    cotangent = torch.randn(input.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = results(ghost_batch_norm_reference, given, [2] * count, cotangent)
    found = results(ghost_batch_norm, on(backend, given), [2] * count, backend.tensor(cotangent))
    for name, value in found.items():
        torch.testing.assert_close(value.cpu(), expected[name], rtol=1e-9, atol=1e-9, msg=name)
