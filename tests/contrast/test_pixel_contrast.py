"""pixel_contrast on every backend."""

import math
from itertools import product

import pytest
import torch

from motionops.contrast import pixel_contrast, pixel_contrast_reference
from tests.contrast.budget import check_budget, loss_and_gradients, widened
from tests.contrast.released_fima import released_pixel_loss
from tests.contrast.samples import pixel_sample

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# B, T, H, W, D, K: nothing, one, odd tails, more rows and columns than a tile.
SHAPES = [
    (0, 2, 3, 3, 4, 2),
    (2, 0, 3, 3, 4, 2),
    (2, 1, 0, 3, 4, 2),
    (1, 1, 1, 1, 1, 0),
    (1, 2, 2, 3, 5, 1),
    (3, 1, 5, 4, 9, 0),
    (2, 2, 7, 7, 32, 50),
    (4, 2, 7, 7, 128, 300),
]
FULL = [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]


@pytest.fixture
def to_backend(backend):
    """Moves a sample to the backend, or skips what it does not take."""

    def move(sample):
        if backend.name != "cpu" and any(sample[name].dtype == torch.float64 for name in ("query", "key")):
            pytest.skip("float64 products are for the CPU")
        return {name: value.to(backend.device) for name, value in sample.items()}

    return move


def squares(batch: int, height: int, width: int, dim: int = 4) -> dict[str, torch.Tensor]:
    """One frame, both views the whole picture."""
    sample = pixel_sample(batch, 1, height, width, dim)
    sample["query_extent"] = sample["key_extent"] = torch.tensor([FULL]).repeat(batch, 1, 1)
    return sample


# ---- shapes and dtypes -----------------------------------------------------------------------------------------------


@pytest.mark.every_simd_target
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("masks", [False, True], ids=["all", "masks"])
def test_matches_reference(to_backend, shape, dtype, masks):
    *size, negative_rows = shape
    sample = to_backend(pixel_sample(*size, negative_rows=negative_rows, masks=masks, dtype=dtype))
    ours = loss_and_gradients(pixel_contrast, sample, ("query", "key"))
    assert ours["loss"].shape == ()
    assert ours["loss"].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    check_budget(
        ours,
        loss_and_gradients(pixel_contrast_reference, sample, ("query", "key")),
        loss_and_gradients(pixel_contrast_reference, widened(sample), ("query", "key")),
        dtype,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_more_rows_than_a_round_of_the_list(to_backend, dtype):
    sample = to_backend(pixel_sample(2, 2, 17, 17, 8, masks=True, dtype=dtype))
    check_budget(
        loss_and_gradients(pixel_contrast, sample, ("query", "key")),
        loss_and_gradients(pixel_contrast_reference, sample, ("query", "key")),
        loss_and_gradients(pixel_contrast_reference, widened(sample), ("query", "key")),
        dtype,
    )


@pytest.mark.parametrize("products", DTYPES, ids=str)
@pytest.mark.parametrize("features", DTYPES, ids=str)
def test_products_are_taken_in_the_type_of_the_columns(to_backend, features, products):
    sample = pixel_sample(2, 2, 4, 4, 24, negative_rows=20, masks=True, dtype=features)
    sample["negatives"] = sample["negatives"].to(products)
    if products == torch.float64:
        sample["key"] = sample["key"].double()  # float64 is for the CPU: skip where it is not
    sample = to_backend(sample)
    ours = loss_and_gradients(pixel_contrast, sample, ("query", "key"))
    assert ours["query"].dtype == features
    rounded = {
        name: value.to(products) if name in ("query", "key", "negatives") else value for name, value in sample.items()
    }
    check_budget(
        ours,
        loss_and_gradients(pixel_contrast_reference, sample, ("query", "key")),
        loss_and_gradients(pixel_contrast_reference, widened(rounded), ("query", "key")),
        products,
    )


# ---- further keys, masks of frames -----------------------------------------------------------------------------------


def by_formula(sample, temperature=0.1, radius=0.7):
    """The loss, pixel by pixel, in Python's floats."""
    query, key, query_extent, key_extent = (
        sample[name].double().cpu() for name in ("query", "key", "query_extent", "key_extent")
    )
    batch, frames, height, width, dim = query.shape
    columns = key.reshape(-1, dim)

    def place(extent, y, x):
        (y0, y1), (x0, x1) = extent[1].tolist(), extent[2].tolist()
        return y0 + (y + 0.5) * (y1 - y0) / height, x0 + (x + 0.5) * (x1 - x0) / width

    def diagonal(extent):
        (y0, y1), (x0, x1) = extent[1].tolist(), extent[2].tolist()
        return math.hypot((y1 - y0) / height, (x1 - x0) / width)

    def seen(name, b, t, y, x):
        mask = sample[name]
        return bool(mask[b, t, y, x] if mask.ndim == 4 else mask[b, y, x])

    pixels = [(y, x) for y in range(height) for x in range(width)]
    samples = []
    for b in range(batch):
        of_sample = []
        unit = max(diagonal(query_extent[b]), diagonal(key_extent[b]))
        for t, (y, x) in product(range(frames), pixels):
            scores = (columns @ query[b, t, y, x] / temperature).exp()
            positive = 0.0
            for number, (v, u) in enumerate(pixels):
                near = math.dist(place(query_extent[b], y, x), place(key_extent[b], v, u)) / unit < radius
                if near and seen("query_mask", b, t, y, x) and seen("key_mask", b, t, v, u):
                    positive += scores[(b * frames + t) * height * width + number].item()
            if positive:
                of_sample.append(math.log(scores.sum().item() / positive))
        if of_sample:
            samples.append(sum(of_sample) / len(of_sample))
    return sum(samples) / len(samples)


MASKS_OF_FRAMES = [(), ("query_mask",), ("key_mask",), ("query_mask", "key_mask")]


@pytest.mark.parametrize("of_frames", MASKS_OF_FRAMES, ids=lambda names: " and ".join(names) or "neither")
@pytest.mark.parametrize("key_batch", [3, 5])
def test_further_keys_and_masks_of_frames(to_backend, key_batch, of_frames):
    sample = to_backend(pixel_sample(3, 2, 3, 4, 6, key_batch=key_batch, masks=True, of_frames=of_frames, seed=3))
    assert pixel_contrast(**sample).item() == pytest.approx(by_formula(sample), rel=1e-5)
    wanted = ("query", "key")
    ours, theirs = (loss_and_gradients(f, sample, wanted) for f in (pixel_contrast, pixel_contrast_reference))
    check_budget(ours, theirs, loss_and_gradients(pixel_contrast_reference, widened(sample), wanted), torch.float32)
    assert all((ours["key"][video] != 0).any() for video in range(key_batch))


def test_masks_are_each_on_their_own(to_backend):
    """A mask of frames that are alike is one of all frames; of further keys' masks nothing is seen."""
    sample = to_backend(pixel_sample(2, 3, 4, 4, 8, key_batch=4, masks=True))
    expected = loss_and_gradients(pixel_contrast, sample, ("query", "key"))
    for name in ("query_mask", "key_mask"):
        repeated = {**sample, name: sample[name][:, None].repeat(1, 3, 1, 1)}
        for change in (repeated, {**repeated, "key_mask": repeated["key_mask"][:2]}):
            found = loss_and_gradients(pixel_contrast, change, ("query", "key"))
            for what, value in expected.items():
                assert torch.equal(found[what], value)


def test_the_mean_over_ranks_is_the_whole(to_backend):
    """Each with the keys of both, its own first: halves of a batch are the batch, and so are the keys' gradients."""
    sample = to_backend(pixel_sample(4, 2, 3, 3, 8, negative_rows=5, seed=1))
    wanted = ("query", "key")
    whole = loss_and_gradients(pixel_contrast, sample, wanted)
    halves = []
    for own, other in ((slice(0, 2), slice(2, 4)), (slice(2, 4), slice(0, 2))):
        of_rank = {**sample, "query": sample["query"][own], "query_extent": sample["query_extent"][own]}
        of_rank |= {name: torch.cat([sample[name][own], sample[name][other]]) for name in ("key", "key_extent")}
        halves.append(loss_and_gradients(pixel_contrast, of_rank, wanted))
    first, second = halves
    torch.testing.assert_close((first["loss"] + second["loss"]) / 2, whole["loss"])
    torch.testing.assert_close(torch.cat([first["query"], second["query"]]) / 2, whole["query"])
    torch.testing.assert_close((first["key"] + second["key"].roll(2, 0)) / 2, whole["key"])


# ---- values known by hand --------------------------------------------------------------------------------------------


def test_identical_embeddings_count_columns_and_positives(to_backend):
    # Every pixel's only positive is itself: neighbours are 0.707 diagonals away. Columns: 2·1·3·3 + 11.
    sample = squares(2, 3, 3)
    for name in ("query", "key"):
        sample[name] = torch.full_like(sample[name], 0.5)
    sample["negatives"] = torch.full((11, 4), 0.5)
    assert pixel_contrast(**to_backend(sample)).item() == pytest.approx(math.log(29), rel=1e-6)
    # With radius 0.75 the 4-neighbourhood counts too: 3 positives in the corners, 4 at the edges, 5 inside.
    wanted = math.log(29) - (4 * math.log(3) + 4 * math.log(4) + math.log(5)) / 9
    assert pixel_contrast(**to_backend(sample), radius=0.75).item() == pytest.approx(wanted, rel=1e-6)


def test_the_radius_itself_is_not_near(to_backend):
    # Diagonal neighbours are exactly one diagonal apart. 3 positives in the corners, 4 at the edges, 5 inside.
    sample = squares(1, 4, 4)
    for name in ("query", "key"):
        sample[name] = torch.full_like(sample[name], 0.5)
    wanted = math.log(16) - (4 * math.log(3) + 8 * math.log(4) + 4 * math.log(5)) / 16
    assert pixel_contrast(**to_backend(sample), radius=1.0).item() == pytest.approx(wanted, rel=1e-6)


def test_a_positive_after_a_block_of_columns_without_one(to_backend):
    # Every pixel's only positive is itself; those of the last rows come after 96 and more that do not count.
    sample = squares(1, 12, 12)
    for name in ("query", "key"):
        sample[name] = torch.full_like(sample[name], 0.5)
    sample["negatives"] = torch.full((11, 4), 0.5)
    assert pixel_contrast(**to_backend(sample)).item() == pytest.approx(math.log(155), rel=1e-6)


def test_mirrored_view_runs_backwards(to_backend):
    sample = squares(1, 2, 3)
    plain = pixel_contrast(**to_backend(sample)).item()
    mirrored = dict(sample)
    mirrored["key"] = sample["key"].flip(3)
    mirrored["key_extent"] = torch.tensor([[[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]])
    assert pixel_contrast(**to_backend(mirrored)).item() == pytest.approx(plain, rel=1e-6)


def test_distance_is_in_cells_of_the_larger_view(to_backend):
    # The key view is the upper left quarter: its 2x2 centres lie at 1/8 and 3/8; those of the query at 1/4 and 3/4. The
    # cell diagonal of the larger view is 0.707: 1/4 is 0.177 from all four, 0.25 diagonals; the rest are beyond 0.7.
    sample = squares(1, 2, 2)
    sample["key_extent"] = torch.tensor([[[0.0, 1.0], [0.0, 0.5], [0.0, 0.5]]])
    for name in ("query", "key"):
        sample[name] = torch.full_like(sample[name], 0.5)
    sample["negatives"] = torch.full((12, 4), 0.5)
    # distances of (1/4, 3/4) to (3/8, 3/8) and (1/8, 3/8): 0.395 / 0.707 = 0.56
    query = [4, 2, 2, 1]  # positives of the four query pixels; (3/4, 3/4) to (3/8, 3/8): 0.530 / 0.707 = 0.75
    wanted = sum(math.log(16 / count) for count in query[:3]) / 3
    assert pixel_contrast(**to_backend(sample)).item() == pytest.approx(wanted, rel=1e-6)
    wanted = sum(math.log(16 / count) for count in query) / 4
    assert pixel_contrast(**to_backend(sample), radius=0.76).item() == pytest.approx(wanted, rel=1e-6)


def test_mean_within_samples_then_over_samples_that_have_any(to_backend):
    sample = squares(3, 2, 2)
    mask = torch.zeros(3, 2, 2, dtype=torch.bool)
    mask[0] = True  # four pixels
    mask[2, 1, 1] = True  # one pixel; sample 1 has none
    masked = to_backend({**sample, "query_mask": mask})
    columns = sample["key"].reshape(12, 4).double()

    def one(b, y, x):
        logits = columns @ sample["query"][b, 0, y, x].double() / 0.1
        return (logits.logsumexp(0) - logits[b * 4 + y * 2 + x]).item()

    wanted = (sum(one(0, y, x) for y in (0, 1) for x in (0, 1)) / 4 + one(2, 1, 1)) / 2
    assert pixel_contrast(**masked).item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("reason", ["query_mask", "key_mask", "apart", "frameless"])
def test_no_positives_give_exactly_zero(to_backend, reason):
    sample = pixel_sample(2, 0 if reason == "frameless" else 2, 3, 3, 4, negative_rows=5)
    if reason == "apart":
        sample["query_extent"] = torch.tensor([[[0, 1], [0, 0.4], [0, 0.4]]]).repeat(2, 1, 1)
        sample["key_extent"] = torch.tensor([[[0, 1], [0.6, 1], [0.6, 1]]]).repeat(2, 1, 1)
    elif reason != "frameless":
        sample[reason] = torch.zeros(2, 3, 3, dtype=torch.bool)
    result = loss_and_gradients(pixel_contrast, to_backend(sample), ("query", "key"))
    assert result["loss"].item() == 0
    assert not result["query"].any()
    assert not result["key"].any()


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("negative_rows", [0, 40])
def test_equals_the_released_formula(to_backend, masks, negative_rows):
    sample = pixel_sample(4, 2, 7, 7, 16, negative_rows=negative_rows, masks=masks, seed=3)
    query = sample["query"].double().requires_grad_()
    released = released_pixel_loss({**widened(sample), "query": query})
    (gradient,) = torch.autograd.grad(released, query)
    ours = loss_and_gradients(pixel_contrast, to_backend(sample), ("query",))
    assert ours["loss"].item() == pytest.approx(released.item(), rel=1e-5)
    torch.testing.assert_close(ours["query"].cpu().double(), gradient, rtol=1e-3, atol=1e-7)


# ---- special values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["query", "key", "negatives"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, 1e-40])
def test_special_values_go_where_log_softmax_sends_them(to_backend, argument, value):
    sample = pixel_sample(2, 1, 3, 3, 5, negative_rows=6)
    sample["key_extent"] = sample["query_extent"]
    sample[argument].view(-1, 5)[2, 1] = value
    sample = to_backend(sample)
    ours = loss_and_gradients(pixel_contrast, sample, ("query", "key"))
    theirs = loss_and_gradients(pixel_contrast_reference, sample, ("query", "key"))
    torch.testing.assert_close(ours["loss"], theirs["loss"], equal_nan=True, rtol=1e-5, atol=1e-5)
    assert torch.equal(ours["query"].isfinite(), theirs["query"].isfinite())
    assert torch.equal(ours["key"].isfinite(), theirs["key"].isfinite())


def test_pixels_without_positives_may_hold_anything(to_backend):
    sample = pixel_sample(2, 2, 3, 3, 5, negative_rows=6)
    sample["key_extent"] = sample["query_extent"]
    mask = torch.ones(2, 3, 3, dtype=torch.bool)
    mask[0, 1, 1] = False
    sample["query_mask"] = mask
    clean = loss_and_gradients(pixel_contrast, to_backend(sample), ("query", "key"))
    sample["query"][0, :, 1, 1] = math.nan
    dirty = loss_and_gradients(pixel_contrast, to_backend(sample), ("query", "key"))
    for name, value in clean.items():
        assert torch.equal(value, dirty[name])


@pytest.mark.parametrize("radius", [0.7, 1e-9])
def test_an_infinite_gradient_leaves_rows_alone_that_do_not_count(to_backend, radius):
    sample = pixel_sample(2, 1, 3, 3, 5)
    sample["query_mask"] = torch.tensor([True, False, True]).expand(2, 3, 3).contiguous()
    sample = to_backend(sample)
    sample["query"].requires_grad_()
    sample["key"].requires_grad_()
    pixel_contrast(**sample, radius=radius).backward(torch.tensor(math.inf, device=sample["query"].device))
    assert (sample["query"].grad[..., 1, :] == 0).all()
    if radius < 0.1:  # nothing is near
        assert (sample["query"].grad == 0).all()
        assert (sample["key"].grad == 0).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_extents_that_are_no_place_have_no_positives(to_backend, value):
    sample = pixel_sample(2, 1, 3, 3, 5)
    sample["key_extent"] = sample["query_extent"].clone()
    sample["key_extent"][0, 1, 0] = value
    sample = to_backend(sample)
    ours = pixel_contrast(**sample)
    assert ours.isfinite()
    torch.testing.assert_close(ours, pixel_contrast_reference(**sample))


# ---- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", [False, True])
def test_gradcheck(backend, masks):
    if backend.name != "cpu":
        pytest.skip("float64 products are for the CPU")
    sample = pixel_sample(2, 2, 2, 3, 3, negative_rows=4, masks=masks, dtype=torch.float64)
    query, key = sample.pop("query").requires_grad_(), sample.pop("key").requires_grad_()
    extents = sample.pop("query_extent"), sample.pop("key_extent")
    assert torch.autograd.gradcheck(
        lambda q, k: pixel_contrast(q, k, *extents, temperature=0.3, radius=1.2, **sample), (query, key)
    )


# ---- bad arguments ---------------------------------------------------------------------------------------------------


# ---- the operator as torch sees it -----------------------------------------------------------------------------------


# ---- CUDA ------------------------------------------------------------------------------------------------------------
