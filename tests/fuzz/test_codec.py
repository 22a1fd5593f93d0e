"""rasterize_motion_vectors under hostile inputs: what the reference returns, or an error of its own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motionops.codec.rasterize_motion_vectors import rasterize_motion_vectors, rasterize_motion_vectors_reference
from tests.codec.samples import random_vectors
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
LARGEST = 2**31 - 1


@st.composite
def block_arguments(draw):
    frames, height, width = draw(st.integers(0, 3)), draw(st.integers(0, 30)), draw(st.integers(0, 30))
    vectors = random_vectors(draw(st.integers(0, 30)), frames, height, width, seed=draw(st.integers(0, 99)))
    if len(vectors) and draw(st.booleans()):  # numbers as large as there are
        column = draw(st.sampled_from([0, 4, 5, 6, 7]))
        vectors[draw(st.integers(0, len(vectors) - 1)), column] = draw(st.sampled_from([-LARGEST - 1, LARGEST]))
    if len(vectors) and draw(st.booleans()):
        vectors[draw(st.integers(0, len(vectors) - 1)), draw(st.sampled_from([2, 3, 8]))] = LARGEST
    return {
        "vectors": lay_out(vectors, draw(st.sampled_from(LAYOUTS))),
        "frames": frames,
        "height": height,
        "width": width,
        "cell": draw(st.sampled_from([1, 2, 3, 8, 16, 1000, LARGEST])),
    }


def on(backend, arguments):
    return {
        name: value.to(backend.device) if isinstance(value, torch.Tensor) and value.device.type == "cpu" else value
        for name, value in arguments.items()
    }


@pytest.mark.parametrize("examples", EXAMPLES)
def test_rasterize_motion_vectors(backend, examples):
    @fuzz_settings(examples // (8 if backend.name == "emulated" else 1))
    @given(block_arguments())
    def check(arguments):
        theirs = rasterize_motion_vectors_reference(**arguments)
        assert_agrees(rasterize_motion_vectors(**on(backend, arguments)), theirs, 1e-6)
        vectors = arguments.pop("vectors").long()
        assert_agrees(rasterize_motion_vectors(backend.tensor(vectors), **arguments), theirs, 1e-6)

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_rasterize_motion_vectors_refuses(backend, examples):
    @fuzz_settings(examples // (8 if backend.name == "emulated" else 1))
    @given(block_arguments().flatmap(spoil))
    def check(arguments):
        result = outcome(rasterize_motion_vectors, on(backend, arguments))
        if isinstance(result, Exception) and not any_meta(arguments):
            assert_own_error(result, "rasterize_motion_vectors")

    check()
