"""soft_correspondence under hostile inputs: what the reference returns, or an error of its own."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motionops.geometry import soft_correspondence, soft_correspondence_reference
from tests.fuzz.hostile import (
    LAYOUTS,
    any_meta,
    assert_agrees,
    assert_own_error,
    fuzz_settings,
    lay_out,
    outcome,
    spoil,
)

EXAMPLES = [200, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]


@st.composite
def views(draw):
    """Two batches of views, mirrored or not, of one size or of very different ones, a few of them spoilt."""
    batch = draw(st.integers(0, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    arguments = {}
    for name in ("query_extent", "key_extent"):
        extent = torch.rand(batch, 3, 2, generator=generator, dtype=torch.float64)
        extent = extent * draw(st.sampled_from([1e-3, 1.0, 64.0, 1e6])) + draw(st.sampled_from([0.0, 0.3, -100.0]))
        if batch and draw(st.integers(0, 5)) == 0:
            spoilt = draw(st.sampled_from([math.nan, math.inf, -math.inf, extent[0, 1, 1].item()]))
            extent[0, 1, 0] = spoilt
        extent = extent.to(draw(st.sampled_from([torch.float32, torch.float64])))
        arguments[name] = lay_out(extent, draw(st.sampled_from(LAYOUTS)))
    for name in ("query_grid", "key_grid"):
        arguments[name] = tuple(draw(st.integers(1, 5)) for _ in range(3))
    return arguments


def on(backend, arguments):
    return {
        name: value.to(backend.device) if isinstance(value, torch.Tensor) and value.device.type == "cpu" else value
        for name, value in arguments.items()
    }


@pytest.mark.parametrize("examples", EXAMPLES)
def test_soft_correspondence(backend, examples):
    @fuzz_settings(examples // 4 if backend.name == "emulated" else examples)
    @given(views())
    def check(arguments):
        result = outcome(soft_correspondence, on(backend, arguments))
        lengths = torch.cat([(arguments[n][..., 1] - arguments[n][..., 0]) for n in ("query_extent", "key_extent")])
        bad = not (lengths.isfinite() & (lengths != 0)).all()
        if bad and backend.name != "cuda":  # a GPU is not waited for: NaN
            assert_own_error(result, "soft_correspondence")
            return
        assert not isinstance(result, Exception), result
        if bad:
            assert result.isnan().any()
            return
        reference = soft_correspondence_reference(**on(backend, arguments))
        # an edge is off by a rounding of its place, which a short cell multiplies
        places = arguments["query_extent"].abs().max().item() if result.numel() else 0.0
        shortest = arguments["query_extent"].double().diff(dim=-1).abs().min().item() / 5 if result.numel() else 1.0
        rounding = max(torch.finfo(result.dtype).eps, 64 * torch.finfo(torch.float64).eps * (1 + places / shortest))
        assert_agrees(result, reference, rounding)
        assert (result >= 0).all()
        assert (result.double().sum(2) <= 1 + 64 * rounding).all()

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_soft_correspondence_refuses(backend, examples):
    @fuzz_settings(examples // 4 if backend.name == "emulated" else examples)
    @given(views().flatmap(spoil_extent_or_grid))
    def check(arguments):
        result = outcome(soft_correspondence, on(backend, arguments))
        if any_meta(arguments):
            return
        if isinstance(result, Exception):
            assert_own_error(result, "soft_correspondence")

    check()


@st.composite
def spoil_extent_or_grid(draw, arguments):
    """One argument made wrong; a grid by a size, a length or a thing that is none."""
    if draw(st.booleans()):
        extents = {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}
        return {**arguments, **draw(spoil(extents))}
    name = draw(st.sampled_from(["query_grid", "key_grid"]))
    worse = draw(st.sampled_from([(), (1, 2), (1, 2, 3, 4), (0, 1, 1), (1, -1, 2), "text", 3, None, (1.5, 2, 2)]))
    return {**arguments, name: worse}
