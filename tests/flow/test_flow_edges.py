"""flow_edges on every backend."""

import math

import numpy as np
import pytest
import torch

from motionops.flow.flow_edges import flow_edges, flow_edges_reference
from tests.flow.budget import check_budget, check_direction, gradient
from tests.flow.samples import DTYPES, FLOW_SHAPES, flow_sample

UNCLAMPED = 1e3
SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def numpy_edges(flow, max_value):
    """The formula tap by tap."""
    magnitude = np.hypot(flow[:, :, 0], flow[:, :, 1])
    height, width = magnitude.shape[2:]
    padded = np.pad(magnitude, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    gx, gy = np.zeros_like(magnitude), np.zeros_like(magnitude)
    for dy in range(3):
        for dx in range(3):
            shifted = padded[:, :, dy : dy + height, dx : dx + width]
            gx += SOBEL[dy, dx] * shifted
            gy += SOBEL.T[dy, dx] * shifted
    return np.minimum(np.hypot(gx, gy), max_value)


@pytest.mark.every_simd_target
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", FLOW_SHAPES, ids=str)
def test_error_budget(backend, shape, dtype):
    flow = flow_sample(*shape, dtype=dtype)
    ours = flow_edges(backend.tensor(flow))
    assert (ours.shape, ours.dtype) == ((*shape[:2], *shape[3:]), dtype)
    assert ours.device.type == backend.device.type
    check_budget(ours, flow_edges_reference(flow), flow_edges_reference(flow.double()))

    weight = flow_sample(*shape, dtype=dtype, seed=1)[:, :, 0]
    truth = gradient(flow_edges_reference, flow.double(), weight, max_value=UNCLAMPED)
    grad = gradient(flow_edges, backend.tensor(flow), backend.tensor(weight), max_value=UNCLAMPED)
    assert (grad.shape, grad.dtype) == (flow.shape, dtype)
    check_budget(grad, gradient(flow_edges_reference, flow, weight, max_value=UNCLAMPED), truth)
    check_direction(grad, truth)


@pytest.mark.every_simd_target
@pytest.mark.parametrize("max_value", [1.0, 10.0, UNCLAMPED])
@pytest.mark.parametrize("shape", [(2, 3, 2, 7, 13), (1, 2, 2, 1, 8), (1, 2, 2, 8, 1), (1, 1, 2, 70, 64)], ids=str)
def test_equals_numpy(backend, shape, max_value):
    flow = flow_sample(*shape, dtype=torch.float64)
    ours = flow_edges(backend.tensor(flow), max_value=max_value).cpu().numpy()
    np.testing.assert_allclose(ours, numpy_edges(flow.numpy(), max_value), rtol=1e-12, atol=1e-12)


def test_equals_scipy(backend):
    flow = flow_sample(1, 1, 2, 33, 20, dtype=torch.float64)
    magnitude = np.hypot(*flow[0, 0].numpy())
    ndimage = pytest.importorskip("scipy.ndimage")
    gx, gy = (ndimage.sobel(magnitude, axis=axis, mode="nearest") for axis in (1, 0))
    ours = flow_edges(backend.tensor(flow), max_value=UNCLAMPED)[0, 0].cpu().numpy()
    np.testing.assert_allclose(ours, np.hypot(gx, gy), rtol=1e-12, atol=1e-12)


def test_values_by_hand(backend):
    flow = torch.zeros(1, 1, 2, 3, 3)
    flow[0, 0, :, 1, 1] = torch.tensor([3.0, -4.0])  # magnitude 5, alone
    corner = 5 * math.sqrt(2)
    expected = torch.tensor([[[[corner, 10, corner], [10, 0, 10], [corner, 10, corner]]]])
    torch.testing.assert_close(flow_edges(backend.tensor(flow)).cpu(), expected)
    torch.testing.assert_close(flow_edges(backend.tensor(flow), max_value=8).cpu(), expected.clamp(max=8))


@pytest.mark.every_simd_target
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_pan_has_no_edges_and_no_gradient(backend, dtype):
    pan = torch.tensor([1.7, -0.3], dtype=dtype).view(1, 1, 2, 1, 1).expand(2, 3, 2, 40, 28)
    assert (flow_edges(backend.tensor(pan)) == 0).all()
    assert (gradient(flow_edges, backend.tensor(pan), torch.ones(2, 3, 40, 28)) == 0).all()


def test_a_clamped_edge_and_a_still_pixel_have_no_gradient(backend):
    flow = backend.tensor(torch.zeros(1, 1, 2, 5, 5))
    flow[..., 2, 2] = 1.0
    weight = torch.ones(1, 1, 5, 5)
    grad = gradient(flow_edges, flow, weight, max_value=UNCLAMPED)
    assert grad.isfinite().all()
    still = torch.ones(5, 5, dtype=torch.bool)
    still[2, 2] = False
    assert (grad[..., still] == 0).all()
    assert (grad[..., 2, 2] > 0).all()
    assert (gradient(flow_edges, flow, weight, max_value=0.1) == 0).all()


@pytest.mark.parametrize(("max_value", "expected"), [(8.0, 2.0), (7.99, 0.0)])
def test_an_edge_that_equals_max_value_is_not_clamped(backend, max_value, expected):
    flow, weight = torch.zeros(1, 1, 2, 5, 5), torch.zeros(1, 1, 5, 5)
    flow[0, 0, 0, 2, 2], weight[0, 0, 2, 1] = 4.0, 1.0  # that edge is 2 · 4; of powers of 2 all is exact
    for function, field in [(flow_edges, backend.tensor(flow)), (flow_edges_reference, flow)]:
        grad = gradient(function, field, weight, max_value=max_value)
        assert grad[0, 0, :, 2, 2].tolist() == [expected, 0.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [(0, 4, 5), (1, 0, 10)], ids=["u inside", "v in a corner"])
def test_gradients_are_nan_where_the_definitions_are(backend, place, value):
    flow = flow_sample(1, 1, 2, 9, 11)
    flow[0, 0, place[0], place[1], place[2]] = value
    weight = torch.ones(1, 1, 9, 11)
    ours = gradient(flow_edges, backend.tensor(flow), weight, max_value=UNCLAMPED).cpu()
    reference = gradient(flow_edges_reference, flow, weight, max_value=UNCLAMPED)
    assert reference[0, 0, :, place[1], place[2]].isnan().all()
    torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_special_values_stay_what_they_are(backend):
    flow = flow_sample(1, 3, 2, 9, 11)
    flow.view(-1)[::37] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e-42, 3e38, -0.0]).repeat(3)[:17]
    ours = flow_edges(backend.tensor(flow)).cpu()
    torch.testing.assert_close(ours, flow_edges_reference(flow), equal_nan=True)


@pytest.mark.every_simd_target
@pytest.mark.parametrize("max_value", [8.0, UNCLAMPED])
@pytest.mark.parametrize("shape", [(1, 1, 2, 4, 5), (1, 2, 2, 1, 4), (1, 1, 2, 4, 1), (1, 1, 2, 2, 2)], ids=str)
def test_gradcheck(backend, shape, max_value):
    flow = backend.tensor(flow_sample(*shape, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: flow_edges(x, max_value=max_value), flow)


def test_a_wrong_gradient_is_refused(backend):
    flow = backend.tensor(flow_sample(1, 3, 2, 4, 5))
    with pytest.raises(ValueError, match=r"grad_edges must be \[B, T, H, W\] of flow .*, got \[1, 3, 4, 4\]"):
        backend.ops.flow_edges_backward(flow[:, :, 0, :, :4], flow, 10.0)
    with pytest.raises(TypeError, match=r"grad_edges must .*float64"):
        backend.ops.flow_edges_backward(flow[:, :, 0].double(), flow, 10.0)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 3), (0, 3), (2, 0)], ids=str)
def test_leading_axes_are_free(backend, leading):
    flow = flow_sample(math.prod(leading), 2, 2, 5, 6, dtype=torch.float64).reshape(*leading, 2, 2, 5, 6)
    weight = flow[..., 0, :, :].contiguous()
    field = backend.tensor(flow.clone()).requires_grad_()
    ours = flow_edges(field, max_value=UNCLAMPED)
    assert ours.shape == (*leading, 2, 5, 6)
    expected = numpy_edges(flow.numpy().reshape(-1, 2, 2, 5, 6), UNCLAMPED) if flow.numel() else np.zeros(0)
    np.testing.assert_allclose(ours.detach().cpu().numpy(), expected.reshape(ours.shape), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(flow_edges_reference(flow, max_value=UNCLAMPED), ours.detach().cpu())
    ours.backward(backend.tensor(weight))
    assert field.grad.shape == flow.shape
    for place in np.ndindex(*leading):
        one = gradient(flow_edges_reference, flow[place], weight[place], max_value=UNCLAMPED)
        torch.testing.assert_close(field.grad[place].cpu(), one)


@pytest.mark.parametrize("leading", [(), (2, 3), (0, 3)], ids=str)
def test_leading_axes_compiled(backend, leading):
    flow = backend.tensor(torch.ones(*leading, 2, 2, 5, 6).cumsum(-1).square())
    compiled = torch.compile(lambda x: flow_edges(x), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(flow), flow_edges(flow))
