"""Draws depend on their generator alone: not on torch's default device, nor on its default dtype."""

import pytest
import torch

from motionops.views import Appearance, motion_extents, motion_starts, sample_extents
from motionops.views.even_clips import centre_extent, clip_starts, square_extents
from motionops.views.intensity_levels import IntensityLevels
from motionops.views.local_views import local_extents, local_starts
from motionops.views.random_windows import random_windows

GRID = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(1))
VIEW = torch.tensor([[0.0, 30.0], [0.1, 0.9], [0.8, 0.2]])
STARTS = torch.tensor([3, 9])
SURE = {"jitter_probability": 1.0, "blur_probability": 0.5}

DRAWS = {
    "Appearance.sample": lambda generator: Appearance.sample(64, **SURE, generator=generator),
    "Appearance.neutral": lambda generator: Appearance.neutral(3),
    "IntensityLevels": lambda generator: IntensityLevels().appearance(STARTS, generator),
    "sample_extents": lambda generator: sample_extents(5, frames=4, frame_count=9, generator=generator),
    "known starts": lambda generator: sample_extents(2, frames=4, frame_count=90, starts=[3, 9], generator=generator),
    "motion_extents": lambda generator: motion_extents(GRID, frames=4, starts=[0, 1, 2], generator=generator),
    "released": lambda generator: motion_extents(
        GRID, frames=4, starts=[0, 1, 2], form="released", generator=generator
    ),
    "motion_starts": lambda generator: motion_starts(GRID.flatten(), span=4, count=5, generator=generator),
    "local_starts": lambda generator: local_starts(30, 4, frames=5, generator=generator),
    "local_extents": lambda generator: local_extents(VIEW, STARTS, frames=4, height=30, width=40, generator=generator),
    "random_windows": lambda generator: random_windows(3, 4)(20, generator),
    "clip_starts": lambda generator: clip_starts(40, 5, 4, 2),
    "one clip": lambda generator: clip_starts(40, 1, 4, 2),
    "square_extents": lambda generator: square_extents(30, 40, 0.9, 3),
    "centre_extent": lambda generator: centre_extent(30, 40),
}


def drawn(name):
    result = DRAWS[name](torch.Generator().manual_seed(5))
    return result.fields() if isinstance(result, Appearance) else (result,)


@pytest.fixture(params=["device", torch.float64, torch.bfloat16], ids=str)
def other_default(request):
    if request.param == "device":
        with torch.device("meta"):
            yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def expected():
    return {name: drawn(name) for name in DRAWS}


@pytest.mark.parametrize("name", DRAWS)
def test_draws(expected, other_default, name):
    for found, wanted in zip(drawn(name), expected[name], strict=True):
        assert (found.device, found.dtype) == (wanted.device, wanted.dtype)
        assert torch.equal(found, wanted)
        assert found.device.type == "cpu"
