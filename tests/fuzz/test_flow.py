"""The flow operators under hostile inputs: what the reference returns, or an error of its own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motionops.flow.flow_edges import flow_edges, flow_edges_reference
from motionops.flow.frame_difference import frame_difference, frame_difference_reference
from motionops.flow.motion_map import motion_map, motion_map_reference
from motionops.flow.tvl1_flow import tvl1_flow, tvl1_flow_reference
from tests.fuzz.hostile import (
    FLOATING,
    any_meta,
    assert_agrees,
    assert_own_error,
    features,
    fuzz_settings,
    outcome,
    spoil,
)

EXAMPLES = [200, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]


@st.composite
def clip_arguments(draw):
    shape = tuple(draw(st.one_of(st.integers(0, 4), st.integers(0, 9))) for _ in range(5))
    return {
        "clip": draw(features(shape, draw(st.sampled_from(FLOATING)), draw(st.booleans()))),
        "first": draw(st.sampled_from(["wrap", "repeat"])),
    }


def on(backend, arguments):
    return {
        name: value.to(backend.device) if isinstance(value, torch.Tensor) and value.device.type == "cpu" else value
        for name, value in arguments.items()
    }


@pytest.mark.parametrize("examples", EXAMPLES)
def test_frame_difference(backend, examples):
    @fuzz_settings(examples // (8 if backend.name == "emulated" else 1))
    @given(clip_arguments())
    def check(arguments):
        arguments = on(backend, arguments)
        clip = arguments["clip"].requires_grad_()
        ours = frame_difference(clip, first=arguments["first"])
        theirs = frame_difference_reference(clip, first=arguments["first"])
        tolerance = 4 * torch.finfo(clip.dtype).eps
        assert ours.dtype == clip.dtype
        assert_agrees(ours, theirs, tolerance)
        weight = torch.linspace(-1, 1, clip.numel(), dtype=clip.dtype, device=clip.device).view(clip.shape)
        (our_gradient,) = torch.autograd.grad(ours, clip, weight)
        (their_gradient,) = torch.autograd.grad(theirs, clip, weight)
        assert_agrees(our_gradient, their_gradient, tolerance)

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_frame_difference_refuses(backend, examples):
    @fuzz_settings(examples // (8 if backend.name == "emulated" else 1))
    @given(clip_arguments().flatmap(spoil))
    def check(arguments):
        result = outcome(frame_difference, on(backend, arguments))
        if any_meta(arguments):
            return
        if isinstance(result, Exception):
            assert_own_error(result, "frame_difference")
        else:
            assert_agrees(result, frame_difference_reference(**on(backend, arguments)), 0.02)

    check()


@st.composite
def pair_arguments(draw):
    shape = (draw(st.integers(0, 2)), *(draw(st.one_of(st.integers(0, 6), st.integers(0, 40))) for _ in range(2)))
    dtype, seed = draw(st.sampled_from([torch.uint8, *FLOATING])), draw(st.integers(0, 9))
    images = 255 * torch.rand(2, *shape, generator=torch.Generator().manual_seed(seed))
    return {
        "previous": images[0].to(dtype),
        "following": images[1].to(dtype),
        "scales": draw(st.integers(1, 3)),
        "scale_step": draw(st.sampled_from([0.01, 0.5, 0.8, 0.99])),
        "warps": draw(st.integers(0, 2)),
        "iterations": draw(st.integers(0, 7)),
        "median": draw(st.sampled_from([1, 3, 5])),
    }


@pytest.mark.parametrize("examples", EXAMPLES)
def test_tvl1_flow(backend, examples):
    @fuzz_settings(examples // (8 if backend.name == "emulated" else 1))
    @given(pair_arguments())
    def check(arguments):
        ours = tvl1_flow(**on(backend, arguments))
        if ours.numel() == 0:
            return
        exact = {**arguments, **{name: arguments[name].double() for name in ("previous", "following")}}
        # noise has pixels beside every threshold, so only the double-precision kernel is compared value by value
        theirs = tvl1_flow_reference(**exact)
        assert ours.isfinite().all()
        torch.testing.assert_close(tvl1_flow(**on(backend, exact)).cpu(), theirs, rtol=1e-6, atol=1e-6)

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_tvl1_flow_refuses(backend, examples):
    @fuzz_settings(examples // (8 if backend.name == "emulated" else 1))
    @given(pair_arguments().flatmap(spoil))
    def check(arguments):
        result = outcome(tvl1_flow, on(backend, arguments))
        if isinstance(result, Exception) and not any_meta(arguments):
            assert_own_error(result, "tvl1_flow")

    check()


STENCILS = {"flow_edges": (flow_edges, flow_edges_reference), "motion_map": (motion_map, motion_map_reference)}


@st.composite
def flow_arguments(draw, op, special=True):
    batch, frames, height, width = (draw(st.one_of(st.integers(0, 4), st.integers(0, 20))) for _ in range(4))
    dtype = draw(st.sampled_from(FLOATING)) if special else torch.float64
    arguments = {"flow": draw(features((batch, frames, 2, height, width), dtype, special and draw(st.booleans())))}
    if op == "flow_edges":
        return {**arguments, "max_value": draw(st.sampled_from([1e-3, 1.0, 10.0, 1e4]))}
    sizes = (frames, height, width)
    if draw(st.booleans()) and min(sizes) > 0:
        grid = [draw(st.sampled_from([cells for cells in range(1, n + 1) if n % cells == 0])) for n in sizes]
        return {**arguments, "grid": grid}
    return {**arguments, "grid": None}


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("op", STENCILS)
def test_stencil(backend, op, examples):
    function, reference = STENCILS[op]

    @fuzz_settings(examples // (8 if backend.name == "emulated" else 1))
    @given(flow_arguments(op))
    def check(arguments):
        ours = function(**on(backend, arguments))
        flow = arguments["flow"]
        assert ours.dtype == flow.dtype
        # as the kernels do: 16-bit values are computed in float32 and rounded once
        wide = flow if flow.dtype == torch.float64 else flow.float()
        theirs = reference(**{**arguments, "flow": wide}).to(flow.dtype)
        assert_agrees(ours, theirs, 64 * torch.finfo(flow.dtype).eps)

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("op", STENCILS)
def test_stencil_gradient(backend, op, examples):
    function, reference = STENCILS[op]

    @fuzz_settings(examples // (8 if backend.name == "emulated" else 1))
    @given(flow_arguments(op, special=False))
    def check(arguments):
        arguments = on(backend, arguments)
        arguments["flow"].requires_grad_()
        gradients = []
        for result in (function(**arguments), reference(**arguments)):
            weight = torch.linspace(-1, 1, result.numel(), dtype=result.dtype, device=result.device)
            gradients += torch.autograd.grad(result, arguments["flow"], weight.view(result.shape))
        assert_agrees(*gradients, 1e-9)

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("op", STENCILS)
def test_stencil_refuses(backend, op, examples):
    function, _ = STENCILS[op]

    @fuzz_settings(examples // (8 if backend.name == "emulated" else 1))
    @given(flow_arguments(op).flatmap(spoil))
    def check(arguments):
        result = outcome(function, on(backend, arguments))
        if isinstance(result, Exception) and not any_meta(arguments):
            assert_own_error(result, op)

    check()
