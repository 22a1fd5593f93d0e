"""tvl1_flow on every backend; its accuracy is in test_tvl1_accuracy.py."""

import pytest
import torch

import motionops
from motionops.flow.tvl1_flow import tvl1_flow, tvl1_flow_reference
from tests.flow.samples import image_pair

FEW = {"warps": 2, "iterations": 7, "scales": 2}
# 0 and 1 along every axis, too small for a second level, odd tails, more than one tile of the CUDA kernel
SHAPES = [(0, 8, 8), (2, 0, 8), (2, 8, 0), (1, 1, 1), (1, 1, 9), (1, 9, 1), (2, 4, 33), (3, 15, 17), (2, 29, 61)]
DTYPES = [torch.uint8, torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_error_budget(backend, shape, dtype):
    previous, following = (image.to(dtype) for image in image_pair(*shape))
    ours = tvl1_flow(backend.tensor(previous), backend.tensor(following), **FEW)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    assert (ours.shape, ours.dtype) == ((shape[0], 2, *shape[1:]), real)
    assert ours.device.type == backend.device.type
    truth = tvl1_flow_reference(previous.double(), following.double(), **FEW)
    reference = tvl1_flow_reference(previous, following, **FEW)
    # of the mean: a median or a threshold may fall to either side in a single pixel
    error, budget = (ours.cpu().double() - truth).abs(), (reference.double() - truth).abs()
    if truth.numel():
        # the truth is itself computed in float64: there only the order of operations differs
        tiny = (64 if real == torch.float64 else 8) * torch.finfo(real).eps
        assert error.mean() <= 2 * budget.mean() + tiny


@pytest.mark.parametrize("median", [1, 3, 5])
@pytest.mark.parametrize("other", [{"warps": 0}, {"iterations": 0}, {"iterations": 11, "tau": 0.1, "smoothness": 0.05}])
def test_parameters(backend, other, median):
    pair = [image.double() for image in image_pair(1, 25, 60)]  # of CUDA's regions two across and two down
    arguments = {"scales": 3, "scale_step": 0.7, "warps": 3, "tightness": 0.2, "median": median, **other}
    ours = tvl1_flow(*map(backend.tensor, pair), **arguments)
    torch.testing.assert_close(ours.cpu(), tvl1_flow_reference(*pair, **arguments), rtol=1e-8, atol=1e-8)


def test_equal_images_do_not_move(backend):
    image = backend.tensor(image_pair(1, 20, 24)[0])
    assert (tvl1_flow(image, image, **FEW) == 0).all()


def test_right_and_down_are_positive(backend):
    previous, following = image_pair(1, 48, 64, shift=(1, 2))
    flow = tvl1_flow(backend.tensor(previous), backend.tensor(following), iterations=15)
    u, v = flow[0, :, 8:-8, 8:-8].flatten(1).median(1).values.tolist()
    assert (u, v) == (pytest.approx(2, abs=0.05), pytest.approx(1, abs=0.05))


def test_any_strides(backend):
    previous, following = (backend.tensor(image) for image in image_pair(2, 20, 24))
    strided = previous.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(tvl1_flow(strided, following, **FEW), tvl1_flow(previous, following, **FEW))


def test_values_that_are_not_finite_do_not_crash(backend):
    previous, following = (image.float() for image in image_pair(1, 20, 24))
    previous[0, 3, 4], following[0, 9, 9], following[0, 15, 2] = float("nan"), float("inf"), 3e38
    assert tvl1_flow(backend.tensor(previous), backend.tensor(following), **FEW).shape == (1, 2, 20, 24)


def test_it_is_not_differentiable(backend):
    pair = [backend.tensor(image).float().requires_grad_() for image in image_pair(1, 16, 16)]
    assert not tvl1_flow(*pair, **FEW).requires_grad


def bad_arguments():
    image = torch.zeros(1, 8, 8)
    return {
        "rank": ((image[0], image[0]), {}, ValueError, r"previous must be \[N, H, W\], got \[8, 8\]"),
        "shapes": ((image, image[:, 1:]), {}, ValueError, r"following must be \[1, 8, 8\] .*, got \[1, 7, 8\]"),
        "integers": ((image.long(), image.long()), {}, TypeError, "previous must be uint8, .*, got int64"),
        "two dtypes": ((image, image.byte()), {}, TypeError, "following must be float32 as previous is, got uint8"),
        "tau": ((image, image), {"tau": 0}, ValueError, "tau must be above 0, got 0"),
        "smoothness": ((image, image), {"smoothness": -1}, ValueError, "smoothness must be above 0, got -1"),
        "tightness": ((image, image), {"tightness": float("nan")}, ValueError, "tightness must be above 0, got nan"),
        "scales": ((image, image), {"scales": 0}, ValueError, "scales must be 1 or more, got 0"),
        "scale_step": ((image, image), {"scale_step": 1}, ValueError, "scale_step must be between 0 and 1, got 1"),
        "warps": ((image, image), {"warps": -1}, ValueError, "warps must be 0 or more, got -1"),
        "iterations": ((image, image), {"iterations": -1}, ValueError, "iterations must be 0 or more, got -1"),
        "median": ((image, image), {"median": 4}, ValueError, "median must be 1, 3 or 5, got 4"),
        "no array": (([[0.5]], image), {}, TypeError, "previous must be a tensor or an array .*, got list"),
    }


@pytest.mark.parametrize("case", bad_arguments())
def test_bad_arguments(backend, case):
    images, arguments, error, message = bad_arguments()[case]
    images = [backend.tensor(image) if isinstance(image, torch.Tensor) else image for image in images]
    with pytest.raises(error, match=f"tvl1_flow: {message}"):
        tvl1_flow(*images, **arguments)


def test_opcheck(backend):
    pair = tuple(backend.tensor(image) for image in image_pair(2, 9, 11))
    torch.library.opcheck(backend.ops.tvl1_flow.default, (*pair, 0.25, 0.15, 0.3, 2, 0.8, 1, 3, 5))


def test_compile(backend):
    pair = [backend.tensor(image).float() for image in image_pair(1, 16, 20)]

    def step(previous, following):
        return 2 * tvl1_flow(previous + 1, following + 1, **FEW)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*pair), step(*pair))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_the_result(backend, threads):
    if backend.name != "cpu":
        pytest.skip("about the CPU's threads")
    pair = image_pair(5, 20, 37)
    expected = torch.cat([tvl1_flow(a[None], b[None], **FEW) for a, b in zip(*pair, strict=True)])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(tvl1_flow(*pair, **FEW), expected)
    finally:
        torch.set_num_threads(before)


def test_graph_capture(backend):
    if backend.name != "cuda":
        pytest.skip("about CUDA graphs")
    pair = [backend.tensor(image).float() for image in image_pair(2, 40, 50)]
    tvl1_flow(*pair)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = tvl1_flow(*pair)
    pair[0].copy_(pair[1].flip(1))
    graph.replay()
    assert torch.equal(captured, tvl1_flow(*pair))


def test_it_is_public():
    assert motionops.tvl1_flow is tvl1_flow
