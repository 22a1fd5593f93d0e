"""tvl1_flow on every backend; its accuracy is in test_tvl1_accuracy.py."""

import math
import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from motionops.flow.tvl1_flow import tvl1_flow, tvl1_flow_reference
from tests.flow.samples import image_pair

FEW = {"warps": 2, "iterations": 7, "scales": 2}
# 0 and 1 along every axis, too small for a second level, odd tails, more than one tile of the CUDA kernel
SHAPES = [(0, 8, 8), (2, 0, 8), (2, 8, 0), (1, 1, 1), (1, 1, 9), (1, 9, 1), (2, 4, 33), (3, 15, 17), (2, 29, 61)]
DTYPES = [torch.uint8, torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.every_simd_target
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


@pytest.mark.every_simd_target
@pytest.mark.parametrize("median", [1, 3, 5])
@pytest.mark.parametrize("other", [{"warps": 0}, {"iterations": 0}, {"iterations": 11, "tau": 0.1, "attachment": 0.05}])
def test_parameters(backend, other, median):
    pair = [image.double() for image in image_pair(1, 25, 60)]  # of CUDA's regions two across and two down
    arguments = {"scales": 3, "scale_step": 0.7, "warps": 3, "tightness": 0.2, "median": median, **other}
    ours = tvl1_flow(*map(backend.tensor, pair), **arguments)
    torch.testing.assert_close(ours.cpu(), tvl1_flow_reference(*pair, **arguments), rtol=1e-8, atol=1e-8)


def test_equal_images_do_not_move(backend):
    image = backend.tensor(image_pair(1, 20, 24)[0])
    assert (tvl1_flow(image, image, **FEW) == 0).all()


@pytest.mark.every_simd_target
def test_right_and_down_are_positive(backend):
    previous, following = image_pair(1, 48, 64, shift=(1, 2))
    flow = tvl1_flow(backend.tensor(previous), backend.tensor(following), iterations=15)
    u, v = flow[0, :, 8:-8, 8:-8].flatten(1).median(1).values.tolist()
    assert (u, v) == (pytest.approx(2, abs=0.05), pytest.approx(1, abs=0.05))


def test_a_pair_depends_on_itself_alone(backend):
    pairs = [backend.tensor(images) for images in image_pair(5, 20, 37)]
    alone = torch.cat([tvl1_flow(a[None], b[None], **FEW) for a, b in zip(*pairs, strict=True)])
    assert torch.equal(tvl1_flow(*pairs, **FEW), alone)


@pytest.mark.parametrize("max_value", [255.0, 1.0])
def test_a_value_that_is_not_finite_leaves_its_pair_without_a_flow(backend, max_value):
    previous, following = (image.float() / 255 * max_value for image in image_pair(5, 20, 24))
    expected = tvl1_flow(backend.tensor(previous), backend.tensor(following), max_value=max_value, **FEW).cpu()
    previous[0, 3, 4], following[2, 9, 9], following[3, 15, 2] = math.nan, math.inf, -math.inf
    flow = tvl1_flow(backend.tensor(previous), backend.tensor(following), max_value=max_value, **FEW).cpu()
    assert flow[[0, 2, 3]].isnan().all()
    assert torch.equal(flow[[1, 4]], expected[[1, 4]])
    defined = tvl1_flow_reference(previous, following, max_value=max_value, **FEW)
    assert torch.equal(defined.isnan(), flow.isnan())


def test_a_value_as_large_as_floats_are_does_not_crash(backend):
    previous, following = (image.float() for image in image_pair(1, 20, 24))
    following[0, 15, 2] = 3e38
    assert tvl1_flow(backend.tensor(previous), backend.tensor(following), **FEW).shape == (1, 2, 20, 24)


@pytest.mark.parametrize("scale_step", [0.9, 0.97, 0.98, 0.99])
def test_levels_that_round_to_one_size(backend, scale_step):
    pair = [image.double() for image in image_pair(1, 20, 44)]
    arguments = {"scales": 9, "scale_step": scale_step, "warps": 2, "iterations": 5}
    ours = tvl1_flow(*map(backend.tensor, pair), **arguments)
    torch.testing.assert_close(ours.cpu(), tvl1_flow_reference(*pair, **arguments), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.uint8], ids=str)
def test_max_value_is_white(backend, dtype):
    pair = [image.to(dtype) for image in image_pair(1, 24, 30)]
    white = 51 if dtype == torch.uint8 else 1.0  # a fifth of 255: whole numbers stay whole
    small = [image // 5 if dtype == torch.uint8 else image / 255 for image in pair]
    expected = tvl1_flow(*(backend.tensor(image.float() if dtype == torch.uint8 else image) for image in pair), **FEW)
    if dtype == torch.uint8:
        expected = tvl1_flow(*(backend.tensor(5.0 * image) for image in small), **FEW)
    ours = tvl1_flow(*map(backend.tensor, small), max_value=white, **FEW)
    assert ours.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)
    reference = tvl1_flow_reference(*small, max_value=white, **FEW)
    torch.testing.assert_close(ours.cpu(), reference, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("white", [0, -1, float("nan"), float("inf")])
def test_a_wrong_max_value(white):
    image = torch.zeros(1, 8, 8)
    with pytest.raises(ValueError, match=f"tvl1_flow: max_value must be above 0, got {white}"):
        tvl1_flow(image, image, max_value=white)


def test_scaling_hides_no_wrong_type():
    image = torch.zeros(1, 8, 8)
    with pytest.raises(TypeError, match=r"tvl1_flow: previous must be uint8, .*, got int64"):
        tvl1_flow(image.long(), image.long(), max_value=1)
    with pytest.raises(TypeError, match="tvl1_flow: following must be float32 as previous is, got uint8"):
        tvl1_flow(image, image.byte(), max_value=1)


def test_values_of_0_to_1_are_warned_of_once():
    pair = [image / 255 for image in image_pair(1, 16, 16)]
    with pytest.warns(UserWarning, match="tvl1_flow: max_value is 255, .*: is max_value=1 meant?") as caught:
        tvl1_flow(*pair, **FEW)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_other_values_are_not_warned_of():
    def flow(previous, following, **options):
        return tvl1_flow(previous, following, **options, **FEW)

    small = [image / 255 for image in image_pair(1, 16, 16)]
    black = torch.zeros(1, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow(*small, max_value=1.0)
        flow(*image_pair(1, 16, 16))
        flow(255 * small[0], 255 * small[1])
        flow(black, black)
        flow(black.byte() + 1, black.byte() + 1)
        flow(black[:0], black[:0])
        flow(black.to("meta"), black.to("meta"))
        with FakeTensorMode() as mode:
            fake = mode.from_tensor(black)
        flow(fake, fake)
        torch.func.vmap(flow)(small[0][None], small[1][None])
        compiled = torch.compile(flow, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*small, max_value=0.5), flow(*small, max_value=0.5))
        compiled(*small)
