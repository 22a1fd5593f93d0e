"""frame_difference on every backend."""

import numpy as np
import pytest
import torch

import motionops
from motionops.flow.frame_difference import frame_difference, frame_difference_reference
from tests.flow.samples import LAYOUTS, clip_sample
from tests.flow.simd import TARGETS, run_tests

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
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


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides(backend, layout, dtype, first):
    clip = backend.tensor(clip_sample(2, 3, 4, 6, 8, dtype=dtype, layout=layout))
    before = clip.clone()
    ours = frame_difference(clip, first=first)
    torch.testing.assert_close(ours, frame_difference(clip.contiguous(), first=first), rtol=0, atol=0)
    assert ours.stride() == torch.empty_like(clip).stride()
    assert torch.equal(clip, before)


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


@pytest.mark.parametrize("first", FIRST)
def test_special_values_stay_what_they_are(backend, first):
    clip = clip_sample(1, 1, 3, 4, 5)
    clip.view(-1)[::7] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e-42, 3e38, -3e38, 0.0, -0.0, 1.0])
    ours = frame_difference(backend.tensor(clip), first=first)
    torch.testing.assert_close(ours.cpu(), frame_difference_reference(clip, first=first), equal_nan=True)


@pytest.mark.parametrize("first", FIRST)
def test_gradcheck(backend, first):
    clip = backend.tensor(clip_sample(2, 1, 3, 2, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: frame_difference(x, first=first), clip)


def test_its_gradient_cannot_be_differentiated_again(backend):
    clip = backend.tensor(clip_sample(1, 1, 3, 2, 2)).requires_grad_()
    weight = torch.ones_like(clip, requires_grad=True)
    (grad,) = torch.autograd.grad(frame_difference(clip), clip, weight, create_graph=True)
    with pytest.raises(RuntimeError, match="frame_difference: its gradient cannot be differentiated again"):
        grad.sum().backward()


def test_arrays_of_other_libraries(backend):
    if backend.name == "cuda":
        pytest.skip("NumPy arrays are on the CPU")
    clip = clip_sample(1, 2, 3, 4, 4)
    torch.testing.assert_close(frame_difference(clip.numpy()), frame_difference(clip), rtol=0, atol=0)


def bad_arguments():
    clip = torch.rand(1, 3, 4, 5, 6)
    return {
        "rank": (clip[0], {}, ValueError, r"frame_difference: clip must be \[B, C, T, H, W\], got \[3, 4, 5, 6\]"),
        "integers": ((255 * clip).byte(), {}, TypeError, "frame_difference: clip must be float32, .*, got uint8"),
        "first": (clip, {"first": "zero"}, ValueError, 'first must be "wrap" or "repeat", got \'zero\''),
        "no string": (clip, {"first": 0}, ValueError, 'first must be "wrap" or "repeat", got 0'),
        "no array": ([[0.5]], {}, TypeError, "frame_difference: clip must be a tensor or an array .*, got list"),
        "text": (np.array(["a"]), {}, TypeError, "frame_difference: clip must be an array that torch can share"),
    }


@pytest.mark.parametrize("case", bad_arguments())
def test_bad_arguments(backend, case):
    clip, arguments, error, message = bad_arguments()[case]
    if isinstance(clip, torch.Tensor):
        clip = backend.tensor(clip)
    with pytest.raises(error, match=message):
        frame_difference(clip, **arguments)


def test_the_raw_operator_checks_first(backend):
    with pytest.raises(ValueError, match='frame_difference: first must be "wrap" or "repeat", got "no"'):
        backend.ops.frame_difference(backend.tensor(torch.rand(1, 1, 2, 2, 2)), "no")


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(backend, layout, first):
    clip = backend.tensor(clip_sample(2, 3, 3, 2, 4, layout=layout))
    torch.library.opcheck(backend.ops.frame_difference.default, (clip.detach().requires_grad_(), first))
    torch.library.opcheck(backend.ops.frame_difference_backward.default, (clip, first))


def test_compile(backend):
    clip = backend.tensor(clip_sample(1, 2, 3, 4, 4))

    def step(x):
        return frame_difference(2 * x, first="repeat").square().sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    eager_input, compiled_input = clip.clone().requires_grad_(), clip.clone().requires_grad_()
    step(eager_input).backward()
    compiled(compiled_input).backward()
    torch.testing.assert_close(compiled_input.grad, eager_input.grad)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_the_result(backend, threads):
    if backend.name != "cpu":
        pytest.skip("about the CPU's threads")
    clip = clip_sample(3, 3, 8, 40, 57)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        ours = frame_difference(clip)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(ours, frame_difference_reference(clip), rtol=0, atol=0)


@pytest.mark.parametrize("simd", TARGETS)
def test_every_simd_target(backend, simd):
    if backend.name != "cpu":
        pytest.skip("about the CPU's vector instructions")
    run_tests(__file__, "test_error_budget or test_special_values or test_gradcheck", simd)


def test_equals_the_cpu(backend):
    if backend.name == "cpu":
        pytest.skip("compared with itself")
    for dtype in DTYPES:
        for first in FIRST:
            clip = clip_sample(2, 3, 5, 7, 9, dtype=dtype)
            ours = frame_difference(backend.tensor(clip), first=first).cpu()
            cpu = torch.ops.motionops.frame_difference(clip, first)
            assert torch.equal(ours, cpu)
            ours = backend.ops.frame_difference_backward(backend.tensor(clip), first).cpu()
            assert torch.equal(ours, torch.ops.motionops.frame_difference_backward(clip, first))


def test_side_stream(backend):
    if backend.name != "cuda":
        pytest.skip("about CUDA streams")
    clip = backend.tensor(clip_sample(4, 3, 16, 64, 64))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        shifted = clip + 1
        ours = frame_difference(shifted)
    torch.cuda.current_stream().wait_stream(stream)
    torch.testing.assert_close(ours, frame_difference_reference(clip + 1))


def test_graph_capture(backend):
    if backend.name != "cuda":
        pytest.skip("about CUDA graphs")
    clip = backend.tensor(clip_sample(2, 3, 8, 32, 32))
    frame_difference(clip)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = frame_difference(clip)
    clip.uniform_()
    graph.replay()
    torch.testing.assert_close(captured, frame_difference_reference(clip))


def test_it_is_public():
    assert motionops.frame_difference is frame_difference
