"""frame_difference on every backend."""

import numpy as np
import pytest
import torch

from motionops.flow.frame_difference import frame_difference, frame_difference_reference
from tests.flow.samples import DTYPES, clip_sample

FIRST = ["wrap", "repeat"]
# 0 and 1 along every axis, odd tails beside the 16-byte accesses, more than one block of the CPU's loop
SHAPES = [
    (0, 3, 4, 5, 6),
    (2, 0, 4, 5, 6),
    (2, 3, 0, 5, 6),
    (2, 3, 4, 0, 6),
    (1, 1, 1, 1, 1),
    (1, 3, 1, 4, 4),
    (2, 1, 2, 3, 5),
    (1, 2, 3, 8, 8),
    (2, 3, 5, 7, 9),
    (1, 1, 3, 50, 83),
]


def gradient(function, clip, first, weight):
    """The gradient of sum(weight · difference) with respect to the clip."""
    clip = clip.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    difference = function(clip, first=first)
    return torch.autograd.grad(difference, clip, weight.to(difference))[0]


def check_budget(ours, reference, truth):
    """|ours − truth| <= 2 |reference in that type − truth| + half a unit in the last place of 1."""
    tiny = torch.finfo(ours.dtype).eps / 2
    error, budget = (ours.cpu().double() - truth).abs(), (reference.double() - truth).abs()
    assert (error <= 2 * budget + tiny).all(), f"off by {error.max():.3g}, the reference by {budget.max():.3g}"


@pytest.mark.every_simd_target
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_error_budget(backend, shape, dtype, first):
    clip = clip_sample(*shape, dtype=dtype)
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    ours = frame_difference(backend.tensor(clip), first=first)
    assert (ours.shape, ours.dtype, ours.device.type) == (clip.shape, dtype, backend.device.type)
    truth = frame_difference_reference(clip.double(), first=first)
    check_budget(ours, frame_difference_reference(clip, first=first), truth)

    grad = gradient(frame_difference, backend.tensor(clip), first, backend.tensor(weight))
    true_grad = gradient(frame_difference_reference, clip.double(), first, weight)
    check_budget(grad, gradient(frame_difference_reference, clip, first, weight), true_grad)
    if true_grad.norm() > 0:
        # element-wise bounds hide a bent or shrunk gradient
        grad = grad.cpu().double()
        eps = torch.finfo(dtype).eps
        assert 1 - torch.cosine_similarity(grad.flatten(), true_grad.flatten(), dim=0) < 4 * eps
        assert (grad - true_grad).norm() / true_grad.norm() < 4 * eps


def test_values_by_hand(backend):
    clip = torch.tensor([0.0, 0.5, 1.0, 0.25]).view(1, 1, 4, 1, 1)
    wrapped = frame_difference(backend.tensor(clip)).flatten().tolist()
    repeated = frame_difference(backend.tensor(clip), first="repeat").flatten().tolist()
    assert wrapped == [0.375, 0.75, 0.75, 0.125]
    assert repeated == [0.75, 0.75, 0.75, 0.125]


@pytest.mark.parametrize("first", FIRST)
def test_still_clips_are_grey(backend, first):
    still = backend.tensor(torch.rand(1, 3, 1, 5, 5).expand(1, 3, 4, 5, 5))
    assert (frame_difference(still, first=first) == 0.5).all()
    assert (frame_difference(still[:, :, :1], first=first) == 0.5).all()


def test_a_single_frame_has_no_gradient(backend):
    clip = backend.tensor(torch.rand(2, 3, 1, 4, 4))
    assert (gradient(frame_difference, clip, "repeat", torch.ones_like(clip)) == 0).all()


@pytest.mark.every_simd_target
@pytest.mark.parametrize("first", FIRST)
def test_special_values_stay_what_they_are(backend, first):
    clip = clip_sample(1, 1, 3, 4, 5)
    clip.view(-1)[::7] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e-42, 3e38, -3e38, 0.0, -0.0, 1.0])
    ours = frame_difference(backend.tensor(clip), first=first)
    torch.testing.assert_close(ours.cpu(), frame_difference_reference(clip, first=first), equal_nan=True)


@pytest.mark.every_simd_target
@pytest.mark.parametrize("first", FIRST)
def test_gradcheck(backend, first):
    clip = backend.tensor(clip_sample(2, 1, 3, 2, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: frame_difference(x, first=first), clip)


def test_the_raw_operator_checks_first(backend):
    with pytest.raises(ValueError, match='frame_difference: first must be "wrap" or "repeat", got "no"'):
        backend.ops.frame_difference(backend.tensor(torch.rand(1, 1, 2, 2, 2)), "no")


@pytest.mark.parametrize("first", ["wrap", "repeat"])
@pytest.mark.parametrize("dim", [0, 1, 2, 3, 4, -4])
def test_time_may_be_any_axis(backend, dim, first):
    clip = clip_sample(2, 3, 4, 5, 3, dtype=torch.float64)
    values = np.moveaxis(clip.numpy(), dim, 0)
    expected = (values - np.roll(values, 1, axis=0) + 1) / 2
    if first == "repeat":
        expected[0] = expected[1]
    input = backend.tensor(clip.clone()).requires_grad_()
    ours = frame_difference(input, first=first, dim=dim)
    assert ours.is_contiguous()
    np.testing.assert_allclose(ours.detach().cpu().numpy(), np.moveaxis(expected, 0, dim), rtol=1e-12)
    torch.testing.assert_close(frame_difference_reference(clip, first=first, dim=dim), ours.detach().cpu())
    assert torch.autograd.gradcheck(lambda x: frame_difference(x, first=first, dim=dim), input)


@pytest.mark.parametrize("dim", [1, -1])
def test_another_axis_compiled(backend, dim):
    clip = backend.tensor(clip_sample(2, 3, 4, 5, 3))
    compiled = torch.compile(lambda x: frame_difference(x, dim=dim), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(clip), frame_difference(clip, dim=dim))


@pytest.mark.parametrize(
    ("dim", "error", "message"),
    [
        (1, ValueError, r"clip must be \[B, T, C, H, W\], got \[3, 4, 5, 6\]"),
        (-1, ValueError, r"clip must be \[B, C, H, W, T\], got \[3, 4, 5, 6\]"),
        (5, ValueError, r"dim must be in \[-5, 4\], got 5"),
        (-6, ValueError, r"dim must be in \[-5, 4\], got -6"),
        (1.0, TypeError, "dim must be a whole number, got 1.0"),
    ],
)
def test_a_wrong_dim(dim, error, message):
    with pytest.raises(error, match=f"frame_difference: {message}"):
        frame_difference(clip_sample(2, 3, 4, 5, 6)[0], dim=dim)
