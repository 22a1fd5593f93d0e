"""motion_map on every backend."""

import math

import numpy as np
import pytest
import torch

import motionops
from motionops.flow.motion_map import motion_map, motion_map_reference
from tests.flow.budget import check_budget, check_direction, gradient
from tests.flow.samples import DTYPES, FLOW_SHAPES, flow_sample, image_pair

# of (T, H, W); None: the whole map
GRIDS = {
    (2, 3, 2, 7, 13): [None, (3, 7, 13), (1, 1, 1), (3, 1, 13), (1, 7, 1)],
    (1, 2, 2, 16, 24): [None, (2, 4, 6), (1, 2, 3), (2, 1, 1)],
    (1, 1, 2, 131, 67): [None, (1, 1, 1), (1, 131, 1)],
    (1, 2, 2, 1, 9): [None, (1, 1, 3)],
    (2, 1, 2, 9, 1): [None, (1, 3, 1)],
}
CASES = [(shape, grid) for shape in FLOW_SHAPES for grid in GRIDS.get(shape, [None])]


def numpy_map(flow, grid):
    """Eq. 1 with neighbours found by clipped indices, then the blocks one by one."""
    height, width = flow.shape[3:]
    rows, columns = np.arange(height), np.arange(width)
    squares = np.zeros(flow[:, :, 0].shape)
    for channel in (0, 1):
        f = flow[:, :, channel]
        across = f.take(columns + 1, axis=3, mode="clip") - f.take(columns - 1, axis=3, mode="clip")
        down = f.take(rows + 1, axis=2, mode="clip") - f.take(rows - 1, axis=2, mode="clip")
        squares += (across / 2) ** 2 + (down / 2) ** 2
    whole = np.sqrt(squares)
    if grid is None:
        return whole
    means = np.empty((flow.shape[0], *grid))
    t, h, w = (size // cells for size, cells in zip(whole.shape[1:], grid, strict=True))
    for i, j, k in np.ndindex(*grid):
        block = whole[:, i * t : (i + 1) * t, j * h : (j + 1) * h, k * w : (k + 1) * w]
        means[:, i, j, k] = block.mean(axis=(1, 2, 3))
    return means


@pytest.mark.every_simd_target
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "grid"), CASES, ids=str)
def test_error_budget(backend, shape, grid, dtype):
    flow = flow_sample(*shape, dtype=dtype)
    ours = motion_map(backend.tensor(flow), grid=grid)
    sizes = (shape[0], *(grid or (shape[1], *shape[3:])))
    assert (ours.shape, ours.dtype, ours.device.type) == (sizes, dtype, backend.device.type)
    truth = motion_map_reference(flow.double(), grid=grid)
    check_budget(ours, motion_map_reference(flow, grid=grid), truth)

    weight = torch.randn(sizes, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    truth = gradient(motion_map_reference, flow.double(), weight, grid=grid)
    grad = gradient(motion_map, backend.tensor(flow), backend.tensor(weight), grid=grid)
    assert (grad.shape, grad.dtype) == (flow.shape, dtype)
    check_budget(grad, gradient(motion_map_reference, flow, weight, grid=grid), truth)
    check_direction(grad, truth)


@pytest.mark.every_simd_target
@pytest.mark.parametrize(("shape", "grid"), CASES, ids=str)
def test_equals_numpy(backend, shape, grid):
    flow = flow_sample(*shape, dtype=torch.float64)
    ours = motion_map(backend.tensor(flow), grid=grid).cpu().numpy()
    np.testing.assert_allclose(ours, numpy_map(flow.numpy(), grid), rtol=1e-12, atol=1e-12)


def test_values_by_hand(backend):
    u = torch.tensor([[0.0, 2, 4, 6]]).expand(3, 4)  # grows by 2 a pixel to the right; half of it seen at the edges
    flow = backend.tensor(torch.stack([u, torch.zeros(3, 4)])[None, None])
    row = torch.tensor([1.0, 2, 2, 1])
    assert torch.equal(motion_map(flow).cpu(), row.expand(1, 1, 3, 4))
    assert torch.equal(motion_map(flow, grid=(1, 1, 2)).cpu(), torch.tensor([[[[1.5, 1.5]]]]))
    # v falls by 4 a pixel down: in the middle the slopes 2 and -4, at the bottom -2
    v = torch.tensor([[0.0], [-4], [-8]]).expand(3, 4)
    both = motion_map(backend.tensor(torch.stack([u, v])[None, None])).cpu()[0, 0]
    assert both[1, 1].item() == pytest.approx(math.sqrt(4 + 16))
    assert both[2, 2].item() == pytest.approx(math.sqrt(4 + 4))
    assert both[0, 0].item() == pytest.approx(math.sqrt(1 + 4))


@pytest.mark.every_simd_target
@pytest.mark.parametrize("grid", [None, (1, 4, 7), (3, 1, 1)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_pan_has_no_motion_and_no_gradient(backend, dtype, grid):
    pan = torch.tensor([1.7, -0.3], dtype=dtype).view(1, 1, 2, 1, 1).expand(2, 3, 2, 40, 28)
    assert (motion_map(backend.tensor(pan), grid=grid) == 0).all()
    weight = torch.ones(2, *(grid or (3, 40, 28)))
    assert (gradient(motion_map, backend.tensor(pan), weight, grid=grid) == 0).all()


def test_s_motion_and_t_motion_are_means_of_it(backend):
    flow = backend.tensor(flow_sample(2, 4, 2, 8, 12))
    whole = motion_map(flow)
    torch.testing.assert_close(motion_map(flow, grid=(4, 1, 1)).flatten(1), whole.mean(dim=(2, 3)))
    torch.testing.assert_close(motion_map(flow, grid=(1, 8, 12))[:, 0], whole.mean(dim=1))


@pytest.mark.parametrize("grid", [None, (3, 3, 1)])
def test_special_values_stay_what_they_are(backend, grid):
    flow = flow_sample(1, 3, 2, 9, 11)
    flow.view(-1)[::37] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e-42, 3e38, -0.0]).repeat(3)[:17]
    ours = motion_map(backend.tensor(flow), grid=grid).cpu()
    torch.testing.assert_close(ours, motion_map_reference(flow, grid=grid), equal_nan=True)


@pytest.mark.every_simd_target
@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((1, 1, 2, 4, 5), None),
        ((1, 2, 2, 1, 4), None),
        ((1, 1, 2, 4, 1), None),
        ((2, 2, 2, 2, 4), (1, 2, 2)),
        ((1, 2, 2, 3, 3), (2, 1, 1)),
    ],
    ids=str,
)
def test_gradcheck(backend, shape, grid):
    flow = backend.tensor(flow_sample(*shape, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: motion_map(x, grid=grid), flow)


def test_arrays_of_other_libraries(backend):
    if backend.name == "cuda":
        pytest.skip("NumPy arrays are on the CPU")
    flow = flow_sample(1, 2, 2, 4, 4)
    theirs = motion_map(flow.numpy(), grid=np.array([1, 2, 2]))
    torch.testing.assert_close(theirs, motion_map(flow, grid=(1, 2, 2)), rtol=0, atol=0)


def test_a_wrong_gradient_is_refused(backend):
    flow = backend.tensor(flow_sample(1, 3, 2, 4, 5))
    with pytest.raises(ValueError, match=r"grad_map must be \[1, 3, 4, 5\], got \[1, 3, 4, 4\]"):
        backend.ops.motion_map_backward(flow[:, :, 0, :, :4], flow, None)
    with pytest.raises(ValueError, match=r"grad_map must be \[1, 1, 2, 1\], got \[1, 3, 4, 5\]"):
        backend.ops.motion_map_backward(flow[:, :, 0], flow, [1, 2, 1])
    with pytest.raises(TypeError, match=r"grad_map must .*float64"):
        backend.ops.motion_map_backward(flow[:, :, 0].double(), flow, None)


@pytest.mark.parametrize("grid", [None, (2, 1, 3)], ids=str)
@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 3), (0, 3), (2, 0)], ids=str)
def test_leading_axes_are_free(backend, leading, grid):
    flow = flow_sample(math.prod(leading), 4, 2, 5, 6, dtype=torch.float64).reshape(*leading, 4, 2, 5, 6)
    field = backend.tensor(flow.clone()).requires_grad_()
    ours = motion_map(field, grid=grid)
    assert ours.shape == (*leading, *(grid or (4, 5, 6)))
    expected = numpy_map(flow.numpy().reshape(-1, 4, 2, 5, 6), grid) if flow.numel() else np.zeros(0)
    np.testing.assert_allclose(ours.detach().cpu().numpy(), expected.reshape(ours.shape), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(motion_map_reference(flow, grid=grid), ours.detach().cpu())
    weight = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view(ours.shape)
    ours.backward(backend.tensor(weight))
    assert field.grad.shape == flow.shape
    for place in np.ndindex(*leading):
        one = gradient(motion_map_reference, flow[place], weight[place], grid=grid)
        torch.testing.assert_close(field.grad[place].cpu(), one)


@pytest.mark.parametrize("leading", [(), (2, 3), (0, 3)], ids=str)
def test_leading_axes_compiled(backend, leading):
    flow = backend.tensor(torch.ones(*leading, 4, 2, 5, 6).cumsum(-1).square())
    compiled = torch.compile(lambda x: motion_map(x, grid=(2, 1, 3)), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(flow), motion_map(flow, grid=(2, 1, 3)))


def test_a_flow_of_tvl1_is_taken_as_it_is():
    flow = motionops.tvl1_flow(*image_pair(3, 16, 20), warps=1, iterations=3)
    for operator in (motion_map, motionops.flow_edges):
        assert torch.equal(operator(flow), operator(flow[None])[0])
