"""flow_edges on every backend."""

import math

import numpy as np
import pytest
import torch

import motionops
from motionops.flow.flow_edges import flow_edges, flow_edges_reference
from tests.flow.budget import check_budget, check_direction, gradient
from tests.flow.samples import FLOW_LAYOUTS, FLOW_SHAPES, flow_sample
from tests.flow.simd import TARGETS, run_tests

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", FLOW_LAYOUTS)
def test_any_strides(backend, layout, dtype):
    flow = backend.tensor(flow_sample(2, 3, 2, 6, 8, dtype=dtype, layout=layout))
    before = flow.clone()
    ours = flow_edges(flow)
    torch.testing.assert_close(ours, flow_edges(flow.contiguous()), rtol=0, atol=0)
    weight = torch.ones_like(ours)
    backward = backend.ops.flow_edges_backward
    assert torch.equal(backward(weight, flow, 10.0), backward(weight, flow.contiguous(), 10.0))
    assert ours.is_contiguous()
    assert torch.equal(flow, before)


def test_special_values_stay_what_they_are(backend):
    flow = flow_sample(1, 3, 2, 9, 11)
    flow.view(-1)[::37] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e-42, 3e38, -0.0]).repeat(3)[:17]
    ours = flow_edges(backend.tensor(flow)).cpu()
    torch.testing.assert_close(ours, flow_edges_reference(flow), equal_nan=True)


@pytest.mark.parametrize("max_value", [8.0, UNCLAMPED])
@pytest.mark.parametrize("shape", [(1, 1, 2, 4, 5), (1, 2, 2, 1, 4), (1, 1, 2, 4, 1), (1, 1, 2, 2, 2)], ids=str)
def test_gradcheck(backend, shape, max_value):
    flow = backend.tensor(flow_sample(*shape, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: flow_edges(x, max_value=max_value), flow)


def test_its_gradient_cannot_be_differentiated_again(backend):
    flow = backend.tensor(flow_sample(1, 1, 2, 3, 4)).requires_grad_()
    weight = torch.ones(1, 1, 3, 4, device=flow.device, requires_grad=True)
    (grad,) = torch.autograd.grad(flow_edges(flow), flow, weight, create_graph=True)
    with pytest.raises(RuntimeError, match="flow_edges: its gradient cannot be differentiated again"):
        grad.sum().backward()


def test_arrays_of_other_libraries(backend):
    if backend.name == "cuda":
        pytest.skip("NumPy arrays are on the CPU")
    flow = flow_sample(1, 2, 2, 4, 4)
    torch.testing.assert_close(flow_edges(flow.numpy()), flow_edges(flow), rtol=0, atol=0)


def bad_arguments():
    flow = flow_sample(1, 3, 2, 4, 5)
    return {
        "rank": (flow[0], {}, ValueError, r"flow_edges: flow must be \[B, T, 2, H, W\], got \[3, 2, 4, 5\]"),
        "channels": (flow[:, :, :1], {}, ValueError, r"flow must be \[B, T, 2, H, W\], got \[1, 3, 1, 4, 5\]"),
        "integers": (flow.int(), {}, TypeError, "flow_edges: flow must be float32, .*, got int32"),
        "no array": ([[0.5]], {}, TypeError, "flow_edges: flow must be a tensor or an array .*, got list"),
        "max_value 0": (flow, {"max_value": 0}, ValueError, "flow_edges: max_value must be > 0, got 0"),
        "max_value text": (flow, {"max_value": "9"}, TypeError, "flow_edges: max_value must be a number > 0, got '9'"),
        "max_value None": (
            flow,
            {"max_value": None},
            TypeError,
            "flow_edges: max_value must be a number > 0, got None",
        ),
        "max_value NaN": (flow, {"max_value": math.nan}, ValueError, "flow_edges: max_value must be > 0, got nan"),
    }


@pytest.mark.parametrize("case", bad_arguments())
def test_bad_arguments(backend, case):
    flow, arguments, error, message = bad_arguments()[case]
    with pytest.raises(error, match=message):
        flow_edges(backend.tensor(flow) if isinstance(flow, torch.Tensor) else flow, **arguments)


def test_a_wrong_gradient_is_refused(backend):
    flow = backend.tensor(flow_sample(1, 3, 2, 4, 5))
    with pytest.raises(ValueError, match=r"grad_edges must be \[B, T, H, W\] of flow .*, got \[1, 3, 4, 4\]"):
        backend.ops.flow_edges_backward(flow[:, :, 0, :, :4], flow, 10.0)
    with pytest.raises(TypeError, match=r"grad_edges must .*float64"):
        backend.ops.flow_edges_backward(flow[:, :, 0].double(), flow, 10.0)


@pytest.mark.parametrize("layout", FLOW_LAYOUTS)
def test_opcheck(backend, layout):
    flow = backend.tensor(flow_sample(2, 3, 2, 3, 4, layout=layout))
    torch.library.opcheck(backend.ops.flow_edges.default, (flow.detach().requires_grad_(), 10.0))
    torch.library.opcheck(backend.ops.flow_edges_backward.default, (flow[:, :, 0], flow, 10.0))


def test_compile(backend):
    flow = backend.tensor(flow_sample(1, 2, 2, 5, 6))

    def step(x):
        return flow_edges(2 * x, max_value=30.0).square().sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    eager_input, compiled_input = flow.clone().requires_grad_(), flow.clone().requires_grad_()
    step(eager_input).backward()
    compiled(compiled_input).backward()
    torch.testing.assert_close(compiled_input.grad, eager_input.grad)


@pytest.mark.parametrize("shape", [(2, 8, 2, 90, 57), (1, 1, 2, 300, 64)], ids=str)
def test_threads_do_not_change_the_result(backend, shape):
    if backend.name != "cpu":
        pytest.skip("about the CPU's threads")
    flow = flow_sample(*shape)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            edges = flow_edges(flow)
            results.append((edges, torch.ops.motionops.flow_edges_backward(edges, flow, 10.0)))
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
        for shape in [(2, 3, 2, 7, 9), (1, 2, 2, 40, 36)]:
            flow = flow_sample(*shape, dtype=dtype)
            weight = flow[:, :, 0].contiguous()
            eps = torch.finfo(dtype).eps
            close = {"rtol": 8 * eps, "atol": 256 * eps}
            cpu = torch.ops.motionops.flow_edges(flow, UNCLAMPED)
            torch.testing.assert_close(flow_edges(backend.tensor(flow), max_value=UNCLAMPED).cpu(), cpu, **close)
            cpu = torch.ops.motionops.flow_edges_backward(weight, flow, UNCLAMPED)
            ours = backend.ops.flow_edges_backward(backend.tensor(weight), backend.tensor(flow), UNCLAMPED)
            torch.testing.assert_close(ours.cpu(), cpu, **close)


def test_side_stream(backend):
    if backend.name != "cuda":
        pytest.skip("about CUDA streams")
    flow = backend.tensor(flow_sample(4, 3, 2, 64, 64))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        ours = flow_edges(2 * flow)
    torch.cuda.current_stream().wait_stream(stream)
    torch.testing.assert_close(ours, flow_edges_reference(2 * flow))


def test_graph_capture(backend):
    if backend.name != "cuda":
        pytest.skip("about CUDA graphs")
    flow = backend.tensor(flow_sample(2, 3, 2, 32, 32))
    flow_edges(flow)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = flow_edges(flow)
    flow.uniform_()
    graph.replay()
    torch.testing.assert_close(captured, flow_edges_reference(flow))


def test_it_is_public():
    assert motionops.flow_edges is flow_edges
