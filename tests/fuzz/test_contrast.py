"""The contrastive operators under hostile inputs: what the reference returns, or an error of their own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motionops.contrast import (
    pairwise_infonce,
    pairwise_infonce_reference,
    pixel_contrast,
    pixel_contrast_reference,
    queue_infonce,
    queue_infonce_reference,
    region_contrast,
    region_contrast_reference,
)
from tests.fuzz.hostile import (
    FLOATING,
    any_meta,
    assert_agrees,
    assert_own_error,
    features,
    fuzz_settings,
    lay_out,
    outcome,
    spoil,
)

EXAMPLES = [200, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]


def few(examples: int, backend) -> int:
    """The emulator runs a thread per CUDA thread: there, fewer."""
    return examples // 8 if backend.name == "emulated" else examples


def sizes(largest: int) -> st.SearchStrategy[int]:
    """Small ones mostly, and some that cross the edges of tiles and vectors."""
    return st.one_of(st.integers(0, 9), st.integers(0, largest))


def differentiated(function, arguments, wanted):
    """Loss (and rank), and the gradients of the wanted arguments."""
    arguments = dict(arguments)
    for name in wanted:
        arguments[name] = arguments[name].detach().requires_grad_()
    result = function(**arguments)
    loss, *others = [result] if isinstance(result, torch.Tensor) else result
    return [loss.detach(), *others, *torch.autograd.grad(loss, [arguments[name] for name in wanted])]


def check_against(function, reference, op, arguments, columns):
    """Results and gradients agree with the reference's, as far as the size of the logits lets them."""
    temperature = arguments["temperature"]
    ours = differentiated(function, arguments, ("query", "key"))
    theirs = differentiated(reference, arguments, ("query", "key"))
    used = [arguments[name].detach() for name in ("query", *columns) if arguments.get(name) is not None]
    values = [value.double() for value in used]
    finite = [value[value.isfinite()].abs().max().item() if value.isfinite().any() else 0.0 for value in values]
    largest = finite[0] * max(finite[1:]) * arguments["query"].shape[-1] / temperature
    rounding = torch.finfo(ours[0].dtype).eps
    assert_agrees(ours[0], theirs[0], 8 * rounding * (1 + largest))
    # An error of a logit is a relative error of its probability: beyond this the gradients are a matter of rounding.
    probability = 16 * rounding * (1 + largest)
    if probability > 0.01:
        return ours, theirs, largest
    for mine, other in zip(ours[-2:], theirs[-2:], strict=True):
        stored = 2 * max(torch.finfo(mine.dtype).eps, *(torch.finfo(value.dtype).eps for value in used))
        assert_agrees(mine, other, stored + probability * (1 + max(finite)) / temperature)
    return ours, theirs, largest


@st.composite
def queue_arguments(draw, dtypes):
    rows, queue_rows, dim = draw(sizes(40)), draw(sizes(300)), max(1, draw(sizes(70)))
    special = draw(st.booleans())
    dtype = draw(st.sampled_from(dtypes))
    arguments = {
        "query": draw(features((rows, dim), draw(st.sampled_from(dtypes)), special)),
        "key": draw(features((rows, dim), dtype, special)),
        "queue": draw(features((queue_rows, dim), draw(st.sampled_from(dtypes)), special)),
        "temperature": draw(st.sampled_from([0.01, 0.07, 0.1, 1.0, 30.0])),
    }
    if draw(st.booleans()):
        arguments["extra_negatives"] = draw(features((draw(sizes(20)), dim), dtype, special))
    if draw(st.booleans()):
        arguments |= video_ids(draw, query_ids=rows, queue_ids=queue_rows)
    return arguments


def video_ids(draw, **rows):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    layouts = ["contiguous", "strided", "offset"]
    return {
        name: lay_out(torch.randint(-1, 4, (count,), generator=generator), draw(st.sampled_from(layouts)))
        for name, count in rows.items()
    }


def dtypes_of(backend):
    return FLOATING if backend.name == "cpu" else [dtype for dtype in FLOATING if dtype != torch.float64]


def on(backend, arguments):
    return {
        name: value.to(backend.device) if isinstance(value, torch.Tensor) and value.device.type == "cpu" else value
        for name, value in arguments.items()
    }


@pytest.mark.parametrize("examples", EXAMPLES)
def test_queue_infonce(backend, examples):
    @fuzz_settings(few(examples, backend))
    @given(queue_arguments(dtypes_of(backend)))
    def check(arguments):
        arguments = on(backend, arguments)
        ours, theirs, largest = check_against(
            queue_infonce, queue_infonce_reference, "queue_infonce", arguments, ("key", "queue", "extra_negatives")
        )
        if largest < 100:
            # negatives as near to the positive as rounding may fall on either side
            accumulated = ours[0].dtype
            products = arguments["queue"].dtype
            query, key, *others = [
                arguments[name].detach().to(products).to(accumulated)
                for name in ("query", "key", "queue", "extra_negatives")
                if name in arguments
            ]
            gaps = (query @ torch.cat(others).T - (query * key).sum(1, keepdim=True)).abs()
            close = (gaps < 64 * torch.finfo(accumulated).eps * (1 + largest)).sum(1)
            assert ((ours[1] - theirs[1]).abs() <= close).all()

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_queue_infonce_refuses(backend, examples):
    @fuzz_settings(few(examples, backend))
    @given(queue_arguments(dtypes_of(backend)).flatmap(spoil))
    def check(arguments):
        result = outcome(queue_infonce, on(backend, arguments))
        if any_meta(arguments):
            return
        if isinstance(result, Exception):
            assert_own_error(result, "queue_infonce")
        else:  # what was changed does no harm: a row more in the queue, an argument left out
            reference = queue_infonce_reference(**on(backend, arguments))
            assert result.rank.shape == reference.rank.shape
            assert result.loss.isfinite() == reference.loss.isfinite()

    check()


@st.composite
def pixel_arguments(draw, dtypes):
    batch, frames, height, width = (draw(st.integers(0, 4)) for _ in range(4))
    dim = max(1, draw(sizes(40)))
    special = draw(st.booleans())
    dtype = draw(st.sampled_from(dtypes))
    arguments = {
        "query": draw(features((batch, frames, height, width, dim), draw(st.sampled_from(dtypes)), special)),
        "key": draw(features((batch, frames, height, width, dim), dtype, special)),
        "radius": draw(st.sampled_from([0.1, 0.7, 1.0, 3.0])),
        "temperature": draw(st.sampled_from([0.01, 0.07, 0.1, 1.0, 30.0])),
    }
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    for name in ("query_extent", "key_extent"):
        extent = torch.rand(batch, 3, 2, generator=generator, dtype=torch.float64)
        if draw(st.integers(0, 9)) == 0 and batch:
            extent[0, 1, 0] = draw(st.sampled_from([float("nan"), float("inf"), extent[0, 1, 1].item()]))
        arguments[name] = lay_out(extent.to(draw(st.sampled_from(FLOATING))), draw(st.sampled_from(["contiguous"])))
    for name in ("query_mask", "key_mask"):
        if draw(st.booleans()):
            mask = torch.rand(batch, height, width, generator=generator) < draw(st.sampled_from([0.0, 0.5, 1.0]))
            arguments[name] = lay_out(mask, draw(st.sampled_from(["contiguous", "transposed", "strided"])))
    if draw(st.booleans()):
        rows = draw(sizes(150))
        arguments["negatives"] = draw(features((rows, dim), draw(st.sampled_from(dtypes)), special))
    return arguments


@pytest.mark.parametrize("examples", EXAMPLES)
def test_pixel_contrast(backend, examples):
    @fuzz_settings(few(examples, backend))
    @given(pixel_arguments(dtypes_of(backend)))
    def check(arguments):
        check_against(
            pixel_contrast, pixel_contrast_reference, "pixel_contrast", on(backend, arguments), ("key", "negatives")
        )

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_pixel_contrast_refuses(backend, examples):
    @fuzz_settings(few(examples, backend))
    @given(pixel_arguments(dtypes_of(backend)).flatmap(spoil))
    def check(arguments):
        result = outcome(pixel_contrast, on(backend, arguments))
        if any_meta(arguments):
            return
        if isinstance(result, Exception):
            assert_own_error(result, "pixel_contrast")
        else:
            reference = pixel_contrast_reference(**on(backend, arguments))
            assert result.isfinite() == reference.isfinite()

    check()


@st.composite
def pairwise_arguments(draw, dtypes):
    rows, dim = draw(sizes(100)), max(1, draw(sizes(70)))
    key_rows = rows + draw(sizes(100))
    special = draw(st.booleans())
    arguments = {
        "query": draw(features((rows, dim), draw(st.sampled_from(dtypes)), special)),
        "key": draw(features((key_rows, dim), draw(st.sampled_from(dtypes)), special)),
        "temperature": draw(st.sampled_from([0.01, 0.07, 0.1, 1.0, 30.0])),
    }
    if draw(st.booleans()):
        arguments |= video_ids(draw, query_ids=rows, key_ids=key_rows)
    return arguments


@pytest.mark.parametrize("examples", EXAMPLES)
def test_pairwise_infonce(backend, examples):
    @fuzz_settings(few(examples, backend))
    @given(pairwise_arguments(dtypes_of(backend)))
    def check(arguments):
        arguments = on(backend, arguments)
        ours, theirs, largest = check_against(
            pairwise_infonce, pairwise_infonce_reference, "pairwise_infonce", arguments, ("key",)
        )
        if largest < 100:
            accumulated, products = ours[0].dtype, arguments["key"].dtype
            query, key = (arguments[name].detach().to(products).to(accumulated) for name in ("query", "key"))
            scores = query @ key.T
            gaps = (scores - scores.diagonal()[:, None]).abs()
            close = (gaps < 64 * torch.finfo(accumulated).eps * (1 + largest)).sum(1)
            assert ((ours[1] - theirs[1]).abs() <= close).all()

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_pairwise_infonce_refuses(backend, examples):
    @fuzz_settings(few(examples, backend))
    @given(pairwise_arguments(dtypes_of(backend)).flatmap(spoil))
    def check(arguments):
        result = outcome(pairwise_infonce, on(backend, arguments))
        if any_meta(arguments):
            return
        if isinstance(result, Exception):
            assert_own_error(result, "pairwise_infonce")
        else:  # a row more among the keys does no harm
            reference = pairwise_infonce_reference(**on(backend, arguments))
            assert result.rank.shape == reference.rank.shape
            assert result.loss.isfinite() == reference.loss.isfinite()

    check()


@st.composite
def region_arguments(draw, dtypes):
    batch, views = draw(st.integers(0, 4)), draw(st.integers(0, 3))
    query_grid, key_grid = (tuple(draw(st.integers(1, 4)) for _ in range(3)) for _ in range(2))
    dim = max(1, draw(sizes(40)))
    special = draw(st.booleans())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    scale, offset = draw(st.sampled_from([(1.0, 0.0), (32.0, 0.0), (0.2, 0.7), (1.0, 5.0)]))
    arguments = {
        "query": draw(features((batch, views, *query_grid, dim), draw(st.sampled_from(dtypes)), special)),
        "key": draw(features((batch, *key_grid, dim), draw(st.sampled_from(dtypes)), special)),
        "temperature": draw(st.sampled_from([0.01, 0.07, 0.1, 1.0, 30.0])),
    }
    places = {
        "query_extent": torch.rand(batch, views, 3, 2, generator=generator, dtype=torch.float64) * scale + offset,
        "key_extent": torch.rand(batch, 3, 2, generator=generator, dtype=torch.float64),
    }
    for name, extent in places.items():
        dtype = draw(st.sampled_from([torch.float32, torch.float64]))
        layout = draw(st.sampled_from(["contiguous", "transposed", "strided", "offset"]))
        arguments[name] = lay_out(extent.to(dtype), layout)
    return arguments


@pytest.mark.parametrize("examples", EXAMPLES)
def test_region_contrast(backend, examples):
    @fuzz_settings(few(examples, backend))
    @given(region_arguments(dtypes_of(backend)))
    def check(arguments):
        check_against(region_contrast, region_contrast_reference, "region_contrast", on(backend, arguments), ("key",))

    check()


@pytest.mark.parametrize("examples", EXAMPLES)
def test_region_contrast_refuses(backend, examples):
    @fuzz_settings(few(examples, backend))
    @given(region_arguments(dtypes_of(backend)).flatmap(spoil))
    def check(arguments):
        result = outcome(region_contrast, on(backend, arguments))
        if any_meta(arguments):
            return
        if isinstance(result, Exception):
            assert_own_error(result, "region_contrast")
        else:
            reference = region_contrast_reference(**on(backend, arguments))
            assert result.isfinite() == reference.isfinite()

    check()
