"""motion_map on every backend."""

import math

import numpy as np
import pytest
import torch

import motionops
from motionops.flow.motion_map import motion_map, motion_map_reference
from tests.flow.budget import check_budget, check_direction, gradient
from tests.flow.samples import FLOW_LAYOUTS, FLOW_SHAPES, flow_sample
from tests.flow.simd import TARGETS, run_tests

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
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


@pytest.mark.parametrize("grid", [None, (1, 2, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", FLOW_LAYOUTS)
def test_any_strides(backend, layout, dtype, grid):
    flow = backend.tensor(flow_sample(2, 3, 2, 6, 8, dtype=dtype, layout=layout))
    before = flow.clone()
    ours = motion_map(flow, grid=grid)
    torch.testing.assert_close(ours, motion_map(flow.contiguous(), grid=grid), rtol=0, atol=0)
    weight = torch.ones_like(ours)
    backward = backend.ops.motion_map_backward
    assert torch.equal(backward(weight, flow, grid), backward(weight, flow.contiguous(), grid))
    assert ours.is_contiguous()
    assert torch.equal(flow, before)


@pytest.mark.parametrize("grid", [None, (3, 3, 1)])
def test_special_values_stay_what_they_are(backend, grid):
    flow = flow_sample(1, 3, 2, 9, 11)
    flow.view(-1)[::37] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e-42, 3e38, -0.0]).repeat(3)[:17]
    ours = motion_map(backend.tensor(flow), grid=grid).cpu()
    torch.testing.assert_close(ours, motion_map_reference(flow, grid=grid), equal_nan=True)


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


def test_its_gradient_cannot_be_differentiated_again(backend):
    flow = backend.tensor(flow_sample(1, 1, 2, 3, 4)).requires_grad_()
    weight = torch.ones(1, 1, 3, 4, device=flow.device, requires_grad=True)
    (grad,) = torch.autograd.grad(motion_map(flow), flow, weight, create_graph=True)
    with pytest.raises(RuntimeError, match="motion_map: its gradient cannot be differentiated again"):
        grad.sum().backward()


def test_arrays_of_other_libraries(backend):
    if backend.name == "cuda":
        pytest.skip("NumPy arrays are on the CPU")
    flow = flow_sample(1, 2, 2, 4, 4)
    theirs = motion_map(flow.numpy(), grid=np.array([1, 2, 2]))
    torch.testing.assert_close(theirs, motion_map(flow, grid=(1, 2, 2)), rtol=0, atol=0)


def bad_arguments():
    flow = flow_sample(1, 3, 2, 4, 5)
    return {
        "rank": (flow[0], {}, ValueError, r"motion_map: flow must be \[B, T, 2, H, W\], got \[3, 2, 4, 5\]"),
        "channels": (flow[:, :, :1], {}, ValueError, r"flow must be \[B, T, 2, H, W\], got \[1, 3, 1, 4, 5\]"),
        "integers": (flow.int(), {}, TypeError, "motion_map: flow must be float32, .*, got int32"),
        "no array": ([[0.5]], {}, TypeError, "motion_map: flow must be a tensor or an array .*, got list"),
        "T": (flow, {"grid": (2, 2, 1)}, ValueError, r"motion_map: grid must divide T=3 .*, got \[2, 2, 1\]"),
        "H": (flow, {"grid": (3, 3, 1)}, ValueError, r"motion_map: grid must divide H=4 .*, got \[3, 3, 1\]"),
        "W": (flow, {"grid": (3, 2, 10)}, ValueError, r"motion_map: grid must divide W=5 .*, got \[3, 2, 10\]"),
        "no cells": (flow, {"grid": (1, 0, 1)}, ValueError, r"motion_map: grid must divide H=4 .*, got \[1, 0, 1\]"),
        "negative": (flow, {"grid": (1, 1, -5)}, ValueError, r"motion_map: grid must divide W=5 .*, got \[1, 1, -5\]"),
        "no pixels": (flow[..., :0], {"grid": (1, 1, 1)}, ValueError, r"motion_map: grid must divide W=0"),
        "two numbers": (flow, {"grid": (2, 2)}, ValueError, r"grid must be three whole numbers .*, got \(2, 2\)"),
        "fractions": (
            flow,
            {"grid": (1.0, 2, 1)},
            TypeError,
            r"grid must be three whole numbers .*, got \(1.0, 2, 1\)",
        ),
        "a number": (flow, {"grid": 2}, TypeError, "grid must be three whole numbers .*, got 2"),
    }


@pytest.mark.parametrize("case", bad_arguments())
def test_bad_arguments(backend, case):
    flow, arguments, error, message = bad_arguments()[case]
    with pytest.raises(error, match=message):
        motion_map(backend.tensor(flow) if isinstance(flow, torch.Tensor) else flow, **arguments)


def test_a_wrong_gradient_is_refused(backend):
    flow = backend.tensor(flow_sample(1, 3, 2, 4, 5))
    with pytest.raises(ValueError, match=r"grad_map must be \[1, 3, 4, 5\], got \[1, 3, 4, 4\]"):
        backend.ops.motion_map_backward(flow[:, :, 0, :, :4], flow, None)
    with pytest.raises(ValueError, match=r"grad_map must be \[1, 1, 2, 1\], got \[1, 3, 4, 5\]"):
        backend.ops.motion_map_backward(flow[:, :, 0], flow, [1, 2, 1])
    with pytest.raises(TypeError, match=r"grad_map must .*float64"):
        backend.ops.motion_map_backward(flow[:, :, 0].double(), flow, None)


@pytest.mark.parametrize("grid", [None, [1, 3, 2]])
@pytest.mark.parametrize("layout", FLOW_LAYOUTS)
def test_opcheck(backend, layout, grid):
    flow = backend.tensor(flow_sample(2, 3, 2, 3, 4, layout=layout))
    torch.library.opcheck(backend.ops.motion_map.default, (flow.detach().requires_grad_(), grid))
    weight = motion_map(flow, grid=grid)
    torch.library.opcheck(backend.ops.motion_map_backward.default, (weight, flow, grid))


def test_compile(backend):
    flow = backend.tensor(flow_sample(1, 2, 2, 6, 6))

    def step(x):
        return motion_map(2 * x, grid=(1, 3, 2)).square().sum() + motion_map(x).sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    eager_input, compiled_input = flow.clone().requires_grad_(), flow.clone().requires_grad_()
    step(eager_input).backward()
    compiled(compiled_input).backward()
    torch.testing.assert_close(compiled_input.grad, eager_input.grad)


@pytest.mark.parametrize("grid", [None, (1, 30, 1)])
@pytest.mark.parametrize("shape", [(2, 8, 2, 90, 57), (1, 1, 2, 300, 64)], ids=str)
def test_threads_do_not_change_the_result(backend, shape, grid):
    if backend.name != "cpu":
        pytest.skip("about the CPU's threads")
    flow = flow_sample(*shape)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            motion = motion_map(flow, grid=grid)
            results.append((motion, torch.ops.motionops.motion_map_backward(motion, flow, grid)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


@pytest.mark.parametrize("simd", TARGETS)
def test_every_simd_target(backend, simd):
    if backend.name != "cpu":
        pytest.skip("about the CPU's vector instructions")
    run_tests(__file__, "test_equals_numpy or test_error_budget or test_gradcheck or test_a_pan", simd)


def test_equals_the_cpu(backend):
    if backend.name == "cpu":
        pytest.skip("compared with itself")
    for dtype in DTYPES:
        for shape, grid in [((2, 3, 2, 7, 9), None), ((2, 3, 2, 7, 9), (3, 1, 3)), ((1, 2, 2, 40, 36), (1, 4, 4))]:
            flow = flow_sample(*shape, dtype=dtype)
            eps = torch.finfo(dtype).eps
            close = {"rtol": 8 * eps, "atol": 32 * eps}
            cpu = torch.ops.motionops.motion_map(flow, grid)
            torch.testing.assert_close(motion_map(backend.tensor(flow), grid=grid).cpu(), cpu, **close)
            ours = backend.ops.motion_map_backward(backend.tensor(cpu), backend.tensor(flow), grid)
            torch.testing.assert_close(ours.cpu(), torch.ops.motionops.motion_map_backward(cpu, flow, grid), **close)


def test_side_stream(backend):
    if backend.name != "cuda":
        pytest.skip("about CUDA streams")
    flow = backend.tensor(flow_sample(4, 3, 2, 64, 64))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        ours = motion_map(2 * flow)
    torch.cuda.current_stream().wait_stream(stream)
    torch.testing.assert_close(ours, motion_map_reference(2 * flow))


def test_graph_capture(backend):
    if backend.name != "cuda":
        pytest.skip("about CUDA graphs")
    flow = backend.tensor(flow_sample(2, 3, 2, 32, 32))
    motion_map(flow)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = motion_map(flow)
    flow.uniform_()
    graph.replay()
    torch.testing.assert_close(captured, motion_map_reference(flow))


def test_it_is_public():
    assert motionops.motion_map is motion_map
