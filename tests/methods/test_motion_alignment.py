"""MCL's motion alignment against NumPy, cases worked by hand, and second derivatives through a network."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from motionops.methods.mcl.motion_alignment import motion_alignment


def tensors(shape=(3, 5, 4, 3, 2), seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    gradient, features = torch.randn(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
    motion = torch.rand(shape[0], *shape[2:], dtype=dtype)
    return gradient, features, motion


def unit(x):
    norm = np.linalg.norm(x)
    return x / norm if norm > 0 else x


def numpy_map(gradient, features, variant, per_step):
    c, t = gradient.shape[:2]
    if variant == "v1":
        return features.sum(0)
    result = np.zeros(gradient.shape[1:])
    other = features if variant == "v2" else gradient
    for step in range(t):
        for channel in range(c):
            weight = gradient[channel, step].mean() if per_step else gradient[channel].mean()
            result[step] += weight * other[channel, step]
    return np.maximum(result, 0)


def numpy_paper(gradient, features, motion, variant):
    st = s = t = 0.0
    for g, h, m in zip(gradient, features, motion, strict=True):
        a = numpy_map(g, h, variant, per_step=False)
        st += np.sum((unit(a) - unit(m)) ** 2)
        s += np.sum((unit(a.mean(0)) - unit(m.mean(0))) ** 2)
        t += np.sum((unit(a.mean((1, 2))) - unit(m.mean((1, 2)))) ** 2)
    return np.array([st, s, t]) / len(gradient)


def numpy_released(gradient, features, motion, variant):
    st = s = t = 0.0
    for g, h, m in zip(gradient, features, motion, strict=True):
        a = numpy_map(g, h, variant, per_step=True)
        weights = np.exp(m.sum((1, 2)))
        weights /= weights.sum()
        st += 1 - sum(w * np.sum(unit(x) * unit(y)) for w, x, y in zip(weights, a, m, strict=True))
        s += 1 - np.sum(unit(a.sum(0)) * unit(m.sum(0)))
        t += 1 - np.sum(unit(a.sum((1, 2))) * unit(m.sum((1, 2))))
    return np.array([st, s, t]) / len(gradient)


@pytest.mark.parametrize(("form", "oracle"), [("paper", numpy_paper), ("released", numpy_released)])
@pytest.mark.parametrize("variant", ["v1", "v2", "v3"])
def test_against_numpy(variant, form, oracle):
    gradient, features, motion = tensors()
    result = motion_alignment(gradient, motion, features=features, variant=variant, form=form)
    expected = oracle(gradient.numpy(), features.numpy(), motion.numpy(), variant)
    np.testing.assert_allclose([result.st, result.s, result.t], expected, rtol=1e-12)
    assert float(result.loss) == pytest.approx(expected.sum(), rel=1e-12)


def test_by_hand_paper():
    # One channel with mean 1: the map is the gradient itself, [3, 0 | 1, 0] over (time | space).
    gradient = torch.tensor([[3.0, 0.0], [1.0, 0.0]], dtype=torch.float64).view(1, 1, 2, 1, 2)
    motion = torch.tensor([[0.0, 2.0], [0.0, 2.0]], dtype=torch.float64).view(1, 2, 1, 2)
    _, st, s, t = motion_alignment(gradient, motion)
    assert float(st) == pytest.approx(2.0)  # nowhere both
    assert float(s) == pytest.approx(2.0)
    assert float(t) == pytest.approx(2 - 2 * 4 / math.sqrt(20))  # (3, 1) against (1, 1)


def test_by_hand_released():
    # Weights of the steps are 2 and 1 (means of [4, 0] and [2, 0]), so the maps are [8, 0] and [2, 0].
    gradient = torch.tensor([[4.0, 0.0], [2.0, 0.0]], dtype=torch.float64).view(1, 1, 2, 1, 2)
    motion = torch.tensor([[3.0, 0.0], [0.0, 1.0]], dtype=torch.float64).view(1, 2, 1, 2)
    _, st, s, t = motion_alignment(gradient, motion, form="released")
    assert float(st) == pytest.approx(1 - math.exp(3) / (math.exp(3) + math.exp(1)))  # cosines 1 and 0
    assert float(s) == pytest.approx(1 - 3 / math.sqrt(10))  # (10, 0) against (3, 1)
    assert float(t) == pytest.approx(1 - 26 / math.sqrt(68 * 10))  # (8, 2) against (3, 1)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_a_map_like_the_motion_has_no_loss(form):
    motion = torch.rand(2, 4, 3, 3, dtype=torch.float64) + 0.1
    # Four channels, each non-zero at one step of its own, so that a weight a step is a weight a channel.
    gradient = torch.zeros(2, 4, 4, 3, 3, dtype=torch.float64)
    for step in range(4):
        total = motion[:, step].sum(dim=(1, 2), keepdim=True)
        gradient[:, step, step] = motion[:, step] / total.sqrt()  # its mean times itself is the motion of the step
    result = motion_alignment(7 * gradient, motion, form=form)
    assert torch.stack(list(result)).abs().max() < 1e-12


@pytest.mark.parametrize("form", ["paper", "released"])
def test_scale_does_not_matter_where_it_should_not(form):
    gradient, _, motion = tensors(dtype=torch.float32)
    plain = motion_alignment(gradient, motion, form=form)
    tiny = motion_alignment(gradient * 1e-15, motion, form=form)  # the map is then near 1e-30, its squares vanish
    torch.testing.assert_close(tiny.loss, plain.loss, rtol=1e-5, atol=0)
    if form == "paper":
        torch.testing.assert_close(motion_alignment(gradient, motion * 1e-25).loss, plain.loss, rtol=1e-5, atol=0)


class Network(nn.Module):
    """Convolutions, ReLU and a pooled, normalised embedding: what stands behind g in a training."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv3d(2, 3, 3, padding=1), nn.Conv3d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, clip):
        h = self.last(torch.tanh(self.first(clip)))
        pooled = torch.nn.functional.softplus(h).mean(dim=(2, 3, 4))  # smooth, so that differences are derivatives
        return h, nn.functional.normalize(self.head(pooled), dim=1)


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("variant", ["v1", "v2", "v3"])
def test_gradients_through_a_network(variant, form):
    """First and second derivatives in the weights, of a loss that itself holds a gradient."""
    torch.manual_seed(3)
    network = Network().double()
    clip, key = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    key = nn.functional.normalize(key, dim=1)
    motion = torch.rand(2, 3, 4, 4, dtype=torch.float64)

    def loss(weight):
        parameters = dict(network.named_parameters()) | {"last.weight": weight}
        h, query = torch.func.functional_call(network, parameters, clip)
        gradient = torch.autograd.grad((query * key).sum(), h, create_graph=True)[0]
        return motion_alignment(gradient, motion, features=h, variant=variant, form=form).loss

    weight = network.last.weight.detach().clone().requires_grad_()
    assert torch.autograd.grad(loss(weight), weight)[0].abs().max() > 1e-4
    torch.autograd.gradcheck(loss, weight, fast_mode=True)
    torch.autograd.gradgradcheck(loss, weight, fast_mode=True)


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("zero", ["gradient", "motion", "both", "step"])
def test_zero_maps_give_neither_nan_nor_gradient(form, zero):
    gradient, _, motion = tensors(dtype=torch.float32)
    if zero in ("gradient", "both"):
        gradient = gradient * 0
    if zero in ("motion", "both"):
        motion = motion * 0
    if zero == "step":
        motion[:, 1] = 0
    gradient.requires_grad_()
    result = motion_alignment(gradient, motion, form=form)
    (first,) = torch.autograd.grad(result.loss, gradient, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), gradient)
    assert torch.stack(list(result)).isfinite().all()
    assert first.isfinite().all()
    assert second.isfinite().all()
    if zero == "step":
        assert first.abs().max() > 0
    else:
        assert first.abs().max() == 0
        constant = {"paper": {"both": 0.0}.get(zero, 1.0), "released": 1.0}[form]
        assert [float(part) for part in result[1:]] == pytest.approx([constant] * 3)


def test_motion_of_another_size_is_averaged_over_the_cells():
    gradient, _, _ = tensors((2, 3, 2, 2, 3))
    fine = torch.rand(2, 4, 6, 6, dtype=torch.float64)
    cells = fine.numpy().reshape(2, 2, 2, 2, 3, 3, 2).mean(axis=(2, 4, 6))
    ours, expected = motion_alignment(gradient, fine), motion_alignment(gradient, cells)
    torch.testing.assert_close(torch.stack(list(ours)), torch.stack(list(expected)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    gradient, _, motion = (x.to(dtype) for x in tensors(dtype=torch.float32))
    result = motion_alignment(gradient, motion)
    assert result.loss.dtype == torch.float32
    assert torch.equal(result.loss, motion_alignment(gradient.float(), motion.float()).loss)


def test_empty_batch():
    gradient = torch.randn(0, 3, 2, 2, 2, requires_grad=True)
    result = motion_alignment(gradient, torch.zeros(0, 2, 2, 2))
    assert float(result.loss) == 0
    result.loss.backward()
    assert gradient.grad.shape == gradient.shape


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"variant": "v4"}, ValueError, "variant must be one of v1, v2, v3, got 'v4'"),
        ({"form": "other"}, ValueError, "form must be paper or released, got 'other'"),
        ({"variant": "v2"}, ValueError, "features must be [B, C, T, H, W] for variant v2, got None"),
        ({"variant": "v2", "features": torch.randn(2, 3, 2, 2, 3)}, ValueError, "features must be [2, 3, 2, 2, 2]"),
        ({"gradient": torch.randn(2, 3, 2, 2)}, ValueError, "gradient must be [B, C, T, H, W], got [2, 3, 2, 2]"),
        ({"gradient": torch.zeros(2, 3, 2, 2, 2, dtype=torch.int64)}, TypeError, "gradient must be of a floating type"),
        ({"motion": torch.rand(3, 2, 2, 2)}, ValueError, "motion must be [B=2, T, H, W], got [3, 2, 2, 2]"),
        ({"motion": torch.rand(2, 2, 2)}, ValueError, "motion must be [B, T, H, W], got [2, 2, 2]"),
        ({"motion": "x"}, TypeError, "motion"),
        ({"motion": torch.rand(2, 0, 2, 2)}, ValueError, "no empty axis"),
    ],
)
def test_wrong_arguments(change, error, text):
    arguments = {"gradient": torch.randn(2, 3, 2, 2, 2), "motion": torch.rand(2, 2, 2, 2)} | change
    with pytest.raises(error) as raised:
        motion_alignment(**arguments)
    assert str(raised.value).startswith("motion_alignment: ")
    assert text in str(raised.value)
