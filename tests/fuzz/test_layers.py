"""ghost_batch_norm under hostile inputs: what the reference returns, or an error of its own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motionops.layers import ghost_batch_norm, ghost_batch_norm_reference
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
TENSORS = ("input", "weight", "bias", "residual")


@st.composite
def norm_arguments(draw, dtypes, special=True):
    samples = draw(st.integers(0, 6))
    channels = draw(st.one_of(st.integers(0, 9), st.integers(0, 150)))
    shape = (samples, channels, *(draw(st.integers(0, 5)) for _ in range(draw(st.integers(0, 3)))))
    dtype, special = draw(st.sampled_from(dtypes)), special and draw(st.booleans())
    arguments = {
        "input": draw(features(shape, dtype, special)),
        "weight": None,
        "bias": None,
        "residual": draw(st.none() | features(shape, dtype, special)),
        "groups": draw(st.none() | partitions(samples)),
        "relu": draw(st.booleans()),
        "eps": draw(st.sampled_from([0.0, 1e-5, 1.0] if special else [1e-3, 1.0])),
    }
    for name in ("weight", "bias"):
        arguments[name] = draw(st.none() | features((channels,), draw(st.sampled_from(dtypes)), special))
    return arguments


@st.composite
def partitions(draw, samples):
    """Numbers of samples, of one group after the other."""
    groups = []
    while sum(groups) < samples:
        groups.append(draw(st.integers(1, samples - sum(groups))))
    return groups


def on(backend, arguments):
    return {
        name: value.to(backend.device) if isinstance(value, torch.Tensor) and value.device.type == "cpu" else value
        for name, value in arguments.items()
    }


def differentiated(function, arguments):
    """Output, statistics, and the gradients with respect to all tensors that there are."""
    given = [name for name in TENSORS if arguments[name] is not None]
    arguments = {**arguments, **{name: arguments[name].detach().requires_grad_() for name in given}}
    result = function(**arguments)
    weight = torch.linspace(-1, 1, result.output.numel(), dtype=result.output.dtype, device=result.output.device)
    tensors = [arguments[name] for name in given]
    return [*result, *torch.autograd.grad(result.output, tensors, weight.view(result.output.shape))]


@pytest.mark.parametrize("examples", EXAMPLES)
def test_ghost_batch_norm(backend, examples):
    """In double precision: of less, a value beside ReLU's edge has another gradient. Special values only must end."""
    dtypes = FLOATING if backend.name == "cpu" else [dtype for dtype in FLOATING if dtype != torch.float64]

    @fuzz_settings(examples // (8 if backend.name == "emulated" else 1))
    @given(norm_arguments([torch.float64], special=False), norm_arguments(dtypes))
    def check(arguments, special):
        arguments, special = on(backend, arguments), on(backend, special)
        assert differentiated(ghost_batch_norm, special)[0].shape == special["input"].shape
        ours = differentiated(ghost_batch_norm, arguments)
        if ours[0].numel():
            for mine, other in zip(ours, differentiated(ghost_batch_norm_reference, arguments), strict=True):
                assert_agrees(mine, other, 1e-9)

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_ghost_batch_norm_refuses(backend, examples):
    def spoiled(arguments):
        kept = {name: arguments.pop(name) for name in ("relu", "groups")}
        samples = len(arguments["input"])
        worse = [[], [0, samples], [-1, samples + 1], [1] * (samples + 1), [2**62] * 4 + [samples], [2**63 - 1] * 2]
        of_groups = st.sampled_from(worse).map(lambda groups: {**arguments, **kept, "groups": groups})
        return of_groups | spoil(arguments).map(lambda worse: {**worse, **kept})

    @fuzz_settings(examples // (8 if backend.name == "emulated" else 1))
    @given(norm_arguments(FLOATING).flatmap(spoiled))
    def check(arguments):
        result = outcome(ghost_batch_norm, on(backend, arguments))
        if isinstance(result, Exception) and not any_meta(arguments):
            assert_own_error(result, "ghost_batch_norm")

    check()
