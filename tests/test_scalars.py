"""Arguments that are single numbers: what is taken, and one line for what is not."""

from fractions import Fraction

import numpy as np
import pytest
import torch

import motionops
from motionops.views import local_starts, motion_extents, motion_starts, sample_extents

ROWS = torch.randn(4, 8)
CLIPS = torch.randn(2, 1, 2, 2, 2, 8), torch.rand(2, 2, 2, 2, 8)
MAPS = torch.randn(2, 2, 3, 3, 8), torch.randn(2, 2, 3, 3, 8)
VIEW = torch.tensor([[0.0, 1.0]]).expand(3, 2)
GREY = 255 * torch.rand(1, 20, 20)
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
    *(("tvl1_flow", argument) for argument in ("max_value", "tau", "attachment", "tightness", "scale_step")),
]
WHOLE = [
    *(("tvl1_flow", argument) for argument in ("scales", "warps", "iterations", "median")),
    *(("rasterize_motion_vectors", argument) for argument in ("frames", "height", "width", "cell")),
]


@pytest.mark.parametrize(("op", "argument"), REAL)
@pytest.mark.parametrize("value", ["0.1", None, [0.1], np.array([0.1]), np.ones(2)], ids=repr)
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


class Half:
    """A number of nobody's: what converts to a float."""

    def __float__(self) -> float:
        return 0.5


class Three:
    """A whole number of nobody's: what Python takes as an index."""

    def __index__(self) -> int:
        return 3


@pytest.mark.parametrize(("op", "argument"), REAL)
def test_what_converts_to_a_float(op, argument):
    assert torch.equal(CALLS[op](**{argument: Half()}), CALLS[op](**{argument: 0.5}))


@pytest.mark.parametrize(("op", "argument"), WHOLE)
def test_what_is_an_index(op, argument):
    assert torch.equal(CALLS[op](**{argument: Three()}), CALLS[op](**{argument: 3}))


MOTION = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
DRAWS = {  # the function, and what it needs beside the argument that is looked at
    "Appearance.sample": (lambda **given: motionops.Appearance.sample(**given).jitter, {"batch": 3}),
    "local_starts": (local_starts, {"frame_count": 9, "clips": 2, "frames": 2}),
    "motion_starts": (lambda **given: motion_starts(MOTION.flatten(), **given), {"span": 2}),
    "motion_extents": (lambda **given: motion_extents(MOTION, starts=[0, 1], **given), {"frames": 2}),
    "sample_extents": (sample_extents, {"batch": 2, "frames": 2, "frame_count": 20}),
}
DRAWN_WHOLE = {
    "Appearance.sample": ["batch"],
    "local_starts": ["frame_count", "clips", "frames", "stride"],
    "motion_starts": ["span", "count"],
    "motion_extents": ["frames", "stride", "tries"],
    "sample_extents": ["batch", "frames", "stride"],
}
DRAWN_REAL = {
    "Appearance.sample": ["jitter_probability", "grayscale_probability", "blur_probability"],
    "motion_extents": ["quantile", "coverage", "probability", "mirror"],
    "sample_extents": ["mirror", "height", "width"],
}


def draw(op, **given):
    function, needed = DRAWS[op]
    return function(generator=torch.Generator().manual_seed(0), **{**needed, **given})


@pytest.mark.parametrize(("op", "argument"), [(op, name) for op, names in DRAWN_WHOLE.items() for name in names])
def test_whole_numbers_of_draws(op, argument):
    expected = draw(op, **{argument: 3})
    for value in (np.int32(3), torch.tensor(3), Three()):
        assert torch.equal(draw(op, **{argument: value}), expected)
    for value in (2.5, "3", torch.tensor(3.0)):
        with pytest.raises((TypeError, ValueError), match=f"{argument} must be a(n integer| whole number)"):
            draw(op, **{argument: value})


@pytest.mark.parametrize(("op", "argument"), [(op, name) for op, names in DRAWN_REAL.items() for name in names])
def test_numbers_of_draws(op, argument):
    number = 1.0 if argument in ("height", "width") else 0.5
    expected = draw(op, **{argument: number})
    for value in (np.float32(number), np.float64(number), torch.tensor(number), Fraction(number)):
        assert torch.equal(draw(op, **{argument: value}), expected)
    with pytest.raises(TypeError, match=f"{argument} must be a number, got '0.5'"):
        draw(op, **{argument: "0.5"})


def test_grids_and_channels_of_any_numbers():
    expected = motionops.soft_correspondence(VIEW[None], VIEW[None], (3, 3, 3), (1, 3, 1))
    three = (np.int64(3), Three(), torch.tensor(3))
    assert torch.equal(motionops.soft_correspondence(VIEW[None], VIEW[None], three, np.array([1, 3, 1])), expected)
    flow = torch.rand(3, 2, 3, 3)
    assert torch.equal(motionops.motion_map(flow, grid=three), motionops.motion_map(flow, grid=(3, 3, 3)))
    assert torch.equal(motionops.flow_edges(flow, max_value=Half()), motionops.flow_edges(flow, max_value=0.5))
    clip = torch.rand(1, 3, 2, 4, 3)
    assert torch.equal(motionops.frame_difference(clip, dim=Three()), motionops.frame_difference(clip, dim=3))
    frames = torch.randint(256, (1, 2, 5, 6, 3), dtype=torch.uint8)
    expected = motionops.augment_clips(frames, None, 3, mean=0.5, std=0.5)
    half = [np.float16(0.5), Half(), torch.tensor(0.5)]
    assert torch.equal(motionops.augment_clips(frames, None, Three(), mean=half, std=Half()), expected)
