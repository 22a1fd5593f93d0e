"""augment_clips under hostile inputs: clips do not depend on memory layout or on each other; or an error of its own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motionops.views import Appearance, augment_clips, augment_clips_reference
from tests.fuzz.hostile import FLOATING, LAYOUTS, any_meta, assert_own_error, fuzz_settings, lay_out, outcome, spoil

EXAMPLES = [100, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]


@st.composite
def clip_arguments(draw):
    batch, count, height, width = (draw(st.integers(1, 4)) for _ in range(4))
    size = draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    frames = torch.randint(256, (batch, count, height, width, 3), dtype=torch.uint8, generator=generator)
    extents = torch.rand(batch, 3, 2, generator=generator) * 1.4 - 0.2
    arguments = {
        "frames": lay_out(frames, draw(st.sampled_from(LAYOUTS))),
        "extents": lay_out(extents, draw(st.sampled_from(LAYOUTS))),
        "size": draw(st.sampled_from([size, (size, draw(st.integers(1, 9)))])),
        "appearance": None,
        "mean": draw(st.sampled_from([0.5, (0.4, 0.5, 0.6)])),
        "std": draw(st.sampled_from([0.25, (0.2, 0.3, 0.1)])),
        "difference": draw(st.booleans()),
        "dtype": draw(st.sampled_from(FLOATING)),
    }
    if draw(st.booleans()):
        arguments["appearance"] = Appearance(
            jitter=torch.rand(batch, 4, generator=generator) * torch.tensor([1.5, 1.5, 1.5, 0.5]),
            order=torch.stack([torch.randperm(4, generator=generator) for _ in range(batch)]),
            grayscale=torch.rand(batch, generator=generator) < 0.3,
            blur_sigma=torch.rand(batch, generator=generator) * draw(st.sampled_from([0.0, 2.0])),
        )
    return arguments


@pytest.mark.parametrize("examples", EXAMPLES)
def test_augment_clips(backend, examples):
    if backend.name == "cuda":
        pytest.skip("inputs are on the CPU, and values on a GPU are not looked at")

    @fuzz_settings(examples // (8 if backend.name == "emulated" else 1))
    @given(clip_arguments())
    def check(arguments):
        batch, count = arguments["frames"].shape[:2]
        size, dtype = arguments["size"], arguments["dtype"]
        together = augment_clips(**arguments)
        assert together.shape == (batch, 3, count, *(size if isinstance(size, tuple) else (size, size)))
        assert together.dtype == dtype
        assert together.isfinite().all()
        # 16-bit results are rounded once; a hue next to gray turns on the last bit
        atol = 0.02 if dtype in (torch.float32, torch.float64) else 0.1
        torch.testing.assert_close(together, augment_clips_reference(**arguments), atol=atol, rtol=0)
        for b in range(batch):
            alone = dict(
                arguments, frames=[arguments["frames"][b].contiguous()], extents=arguments["extents"][b : b + 1]
            )
            if arguments["appearance"] is not None:
                alone["appearance"] = arguments["appearance"][b : b + 1]
            torch.testing.assert_close(augment_clips(**alone)[0], together[b])

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_augment_clips_refuses(backend, examples):
    def spoiled(arguments):
        kept = {name: arguments.pop(name) for name in ("appearance", "difference", "dtype", "mean", "std")}
        return spoil(arguments).map(lambda worse: {**worse, **kept})

    if backend.name == "cuda":
        pytest.skip("inputs are on the CPU, and values on a GPU are not looked at")

    @fuzz_settings(examples // (8 if backend.name == "emulated" else 1))
    @given(clip_arguments().flatmap(spoiled))
    def check(arguments):
        result = outcome(augment_clips, arguments)
        if any_meta(arguments):
            return
        if isinstance(result, Exception):
            assert_own_error(result, "augment_clips")
        else:
            assert result.shape[1] == 3

    check()
