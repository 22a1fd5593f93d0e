"""Arguments that are single numbers: what is taken, and one line for what is not."""

import numpy as np
import pytest
import torch

import motionops

ROWS = torch.randn(4, 8)
CLIPS = torch.randn(2, 1, 2, 2, 2, 8), torch.rand(2, 2, 2, 2, 8)
MAPS = torch.randn(2, 2, 3, 3, 8), torch.randn(2, 2, 3, 3, 8)
VIEW = torch.tensor([[0.0, 1.0]]).expand(3, 2)
GREY = torch.rand(1, 20, 20)
VECTORS = torch.zeros(0, 9, dtype=torch.int32)

CALLS = {
    "queue_infonce": lambda **change: motionops.queue_infonce(ROWS, ROWS, ROWS, **change).loss,
    "pairwise_infonce": lambda **change: motionops.pairwise_infonce(ROWS, ROWS, **change).loss,
    "region_contrast": lambda **change: motionops.region_contrast(
        *CLIPS, VIEW.expand(2, 1, 3, 2), VIEW.expand(2, 3, 2), **change
    ),
    "pixel_contrast": lambda **change: motionops.pixel_contrast(
        *MAPS, VIEW.expand(2, 3, 2), VIEW.expand(2, 3, 2), **change
    ),
    "tvl1_flow": lambda **change: motionops.tvl1_flow(GREY, GREY, **change),
    "rasterize_motion_vectors": lambda **change: motionops.rasterize_motion_vectors(
        VECTORS, **{"frames": 1, "height": 8, "width": 8, **change}
    ),
}
REAL = [
    *((op, "temperature") for op in ("queue_infonce", "pairwise_infonce", "region_contrast", "pixel_contrast")),
    ("pixel_contrast", "radius"),
    *(("tvl1_flow", argument) for argument in ("tau", "smoothness", "tightness", "scale_step")),
]
WHOLE = [
    *(("tvl1_flow", argument) for argument in ("scales", "warps", "iterations", "median")),
    *(("rasterize_motion_vectors", argument) for argument in ("frames", "height", "width", "cell")),
]


@pytest.mark.parametrize(("op", "argument"), REAL)
@pytest.mark.parametrize("value", ["0.1", None, [0.1]], ids=repr)
def test_no_number(op, argument, value):
    with pytest.raises(TypeError) as raised:
        CALLS[op](**{argument: value})
    assert str(raised.value) == f"{op}: {argument} must be a number, got {value!r}"


@pytest.mark.parametrize(("op", "argument"), WHOLE)
@pytest.mark.parametrize("value", [2.5, "3", None], ids=repr)
def test_no_whole_number(op, argument, value):
    with pytest.raises(TypeError) as raised:
        CALLS[op](**{argument: value})
    assert str(raised.value) == f"{op}: {argument} must be a whole number, got {value!r}"


@pytest.mark.parametrize(("op", "argument"), REAL)
def test_numbers_of_other_libraries(op, argument):
    wanted = CALLS[op](**{argument: 0.25})
    for value in (np.float32(0.25), np.float64(0.25), torch.tensor(0.25)):
        assert torch.equal(CALLS[op](**{argument: value}), wanted)


@pytest.mark.parametrize(("op", "argument"), WHOLE)
def test_whole_numbers_of_other_libraries(op, argument):
    wanted = CALLS[op](**{argument: 3})
    for value in (np.int64(3), np.uint8(3)):
        assert torch.equal(CALLS[op](**{argument: value}), wanted)
