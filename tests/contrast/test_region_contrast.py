"""region_contrast on every backend."""

import math

import pytest
import torch

from motionops.contrast import pairwise_infonce, region_contrast, region_contrast_reference
from motionops.geometry import soft_correspondence
from motionops.library import ops
from tests.contrast.budget import check_budget, loss_and_gradients, widened
from tests.contrast.samples import random_extents, region_sample, unit_rows

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


# B, V, query and key grids, D: nothing, one, odd tails, wide features, more cells than a tile, more keys than queries,
# more rows and more cells of a video than a block of the merge takes at once.
SHAPES = [
    (0, 2, (1, 1, 1), (1, 1, 1), 3),
    (2, 0, (1, 2, 2), (2, 1, 1), 3),
    (1, 1, (1, 1, 1), (1, 1, 1), 1),
    (3, 2, (2, 3, 3), (3, 4, 4), 33),
    (2, 1, (1, 5, 7), (4, 7, 5), 128),
    (1, 3, (2, 1, 3), (1, 3, 2), 300),
    (2, 2, (2, 5, 7), (4, 6, 7), 20),
]


@pytest.mark.every_simd_target
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(backend, shape, dtype):
    if backend.name != "cpu" and dtype == torch.float64:
        pytest.skip("float64 products are for the CPU")
    sample = {name: value.to(backend.device) for name, value in region_sample(*shape, dtype=dtype).items()}
    check_budget(
        loss_and_gradients(region_contrast, sample, ("query", "key")),
        loss_and_gradients(region_contrast_reference, sample, ("query", "key")),
        loss_and_gradients(region_contrast_reference, widened(sample), ("query", "key")),
        dtype,
    )


def test_gradcheck(backend):
    if backend.name != "cpu":
        pytest.skip("float64 products are for the CPU")
    sample = region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4, dtype=torch.float64)
    query, key = sample.pop("query").requires_grad_(), sample.pop("key").requires_grad_()
    assert torch.autograd.gradcheck(lambda q, k: region_contrast(q, k, **sample), (query, key))


@pytest.mark.parametrize("features", DTYPES, ids=str)
@pytest.mark.parametrize("key", DTYPES, ids=str)
def test_products_are_taken_in_the_keys_type(backend, features, key):
    if backend.name != "cpu" and torch.float64 in (features, key):
        pytest.skip("float64 products are for the CPU")
    sample = region_sample(2, 2, (1, 2, 3), (2, 2, 2), 24, dtype=features)
    sample["key"] = sample["key"].to(key)
    sample = {name: value.to(backend.device) for name, value in sample.items()}
    ours = loss_and_gradients(region_contrast, sample, ("query", "key"))
    assert ours["query"].dtype == features
    assert ours["key"].dtype == key
    rounded = {n: v.to(key) if n in ("query", "key") else v for n, v in sample.items()}
    check_budget(
        ours,
        loss_and_gradients(region_contrast_reference, sample, ("query", "key")),
        loss_and_gradients(region_contrast_reference, widened(rounded), ("query", "key")),
        key,
    )


def test_targets_are_those_of_soft_correspondence(backend):
    """The dense loss, written with the other operator's S and float64 logits."""
    sample = {k: v.to(backend.device) for k, v in region_sample(3, 2, (2, 3, 2), (2, 2, 4), 9).items()}
    query, key = sample["query"].cpu().double(), sample["key"].cpu().double()
    logits = query.reshape(3, 24, 9) @ key.reshape(-1, 9).T / 0.2  # [B, rows of a video, all cells]
    log_probability = logits.log_softmax(-1).reshape(3, 2, 12, 3, 16)
    loss = 0.0
    for view in range(2):
        share = soft_correspondence(sample["query_extent"][:, view], sample["key_extent"], (2, 3, 2), (2, 2, 4)).cpu()
        for video in range(3):
            loss -= (share[video] * log_probability[video, view, :, video]).sum().item()
    assert region_contrast(**sample, temperature=0.2).item() == pytest.approx(loss / 72, rel=1e-5)


@pytest.mark.parametrize("rows", ["all", "overlapping"])
def test_further_keys(backend, rows):
    """The dense loss over the cells of all videos, the first of which are the queries' own."""
    sample = {k: v.to(backend.device) for k, v in region_sample(3, 2, (2, 3, 2), (2, 2, 4), 9, key_batch=5).items()}
    sample["query_extent"][1, 0, 0] += 1000  # a view that meets nothing
    query, key = sample["query"].cpu().double(), sample["key"].cpu().double()
    log_probability = (query.reshape(3, 2, 12, 9) @ key.reshape(-1, 9).T / 0.2).log_softmax(-1)
    loss, overlapping = 0.0, 0
    for view in range(2):
        own = sample["query_extent"][:, view], sample["key_extent"][:3]
        share = soft_correspondence(*own, (2, 3, 2), (2, 2, 4)).cpu()
        overlapping += (share.sum(-1) > 0).sum().item()
        for video in range(3):
            loss -= (share[video] * log_probability[video, view, :, 16 * video : 16 * (video + 1)]).sum().item()
    assert 0 < overlapping <= 60
    count = 72 if rows == "all" else overlapping
    assert region_contrast(**sample, temperature=0.2, rows=rows).item() == pytest.approx(loss / count, rel=1e-5)

    wanted = ("query", "key")
    given = {**sample, "rows": rows}
    found, theirs = (loss_and_gradients(f, given, wanted) for f in (region_contrast, region_contrast_reference))
    truth = loss_and_gradients(region_contrast_reference, {**widened(sample), "rows": rows}, wanted)
    check_budget(found, theirs, truth, torch.float32)
    assert all((found["key"][video] != 0).any() for video in range(5))


def test_the_mean_over_ranks_is_the_whole(backend):
    """Each with the keys of both, its own first: halves of a batch are the batch, and so are the keys' gradients."""
    sample = {k: v.to(backend.device) for k, v in region_sample(4, 2, (1, 2, 3), (2, 2, 2), 8).items()}
    wanted = ("query", "key")
    whole = loss_and_gradients(region_contrast, sample, wanted)
    halves = []
    for own, other in ((slice(0, 2), slice(2, 4)), (slice(2, 4), slice(0, 2))):
        of_rank = {"query": sample["query"][own], "query_extent": sample["query_extent"][own]}
        of_rank |= {name: torch.cat([sample[name][own], sample[name][other]]) for name in ("key", "key_extent")}
        halves.append(loss_and_gradients(region_contrast, of_rank, wanted))
    first, second = halves
    torch.testing.assert_close((first["loss"] + second["loss"]) / 2, whole["loss"])
    torch.testing.assert_close(torch.cat([first["query"], second["query"]]) / 2, whole["query"])
    torch.testing.assert_close((first["key"] + second["key"].roll(2, 0)) / 2, whole["key"])


def test_where_no_row_overlaps_the_mean_is_zero(backend):
    sample = {k: v.to(backend.device) for k, v in region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4).items()}
    sample["query_extent"] = sample["query_extent"] + 1e4
    results = loss_and_gradients(region_contrast, {**sample, "rows": "overlapping"}, ("query", "key"))
    assert all((value == 0).all() for value in results.values())
    empty = {**sample, "query": sample["query"][:, :0], "query_extent": sample["query_extent"][:, :0]}
    assert region_contrast(**empty, rows="overlapping") == 0


def test_equal_views_of_one_cell_are_pairwise_infonce(backend):
    """One cell a video, the same in both views: S is the identity, and the loss InfoNCE of the batch."""
    sample = {k: v.to(backend.device) for k, v in region_sample(12, 1, (1, 1, 1), (1, 1, 1), 8).items()}
    sample["query_extent"] = sample["key_extent"][:, None]
    alone = pairwise_infonce(sample["query"].reshape(12, 8), sample["key"].reshape(12, 8)).loss
    torch.testing.assert_close(region_contrast(**sample), alone)


def test_a_mirrored_local_view_names_the_mirrored_cells(backend):
    """Mirroring the extent along x and the map of cells with it changes nothing."""
    sample = {k: v.to(backend.device) for k, v in region_sample(2, 2, (1, 2, 3), (2, 2, 2), 5).items()}
    mirrored = {**sample, "query": sample["query"].flip(4), "query_extent": sample["query_extent"].clone()}
    mirrored["query_extent"][:, :, 2] = sample["query_extent"][:, :, 2].flip(-1)
    torch.testing.assert_close(region_contrast(**mirrored), region_contrast(**sample))
    assert region_contrast(**{**mirrored, "query": sample["query"]}) != region_contrast(**sample)


def test_values_by_hand(backend):
    box = [[0.0, 2.0], [0.0, 2.0], [0.0, 4.0]]
    inputs = {
        # Two videos of two key cells along x; the one query cell is x 1..3 of its video, half in either cell.
        "query": torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1, 1, 1),
        "key": torch.tensor([1.0, 3.0, 0.0, -1.0]).reshape(2, 1, 1, 2, 1),
        "query_extent": torch.tensor([[[0.0, 2.0], [0.0, 2.0], [1.0, 3.0]]]).expand(2, 1, 3, 2),
        "key_extent": torch.tensor([box, box]),
    }
    loss = region_contrast(**{name: value.to(backend.device) for name, value in inputs.items()}, temperature=0.5)
    first = math.log(sum(math.exp(x) for x in (2, 6, 0, -2))) - (2 + 6) / 2
    second = math.log(sum(math.exp(x) for x in (4, 12, 0, -4))) - (0 - 4) / 2
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_views_outside_the_key_view(backend):
    sample = {k: v.to(backend.device) for k, v in region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4).items()}
    sample["query_extent"] = sample["query_extent"] + 1e4
    results = loss_and_gradients(region_contrast, sample, ("query", "key"))
    assert all((value == 0).all() for value in results.values())


@pytest.mark.parametrize("outside", ["t", "y", "x"])
def test_a_view_half_outside_weighs_half(backend, outside):
    """Cells outside the key view have no targets there: with one of two cells outside, W is 1 and 0."""
    sample = {k: v.to(backend.device) for k, v in region_sample(1, 1, (2, 2, 2), (2, 2, 2), 4).items()}
    place = torch.tensor([[0.0, 2.0], [0.0, 2.0], [0.0, 2.0]], device=backend.device)
    sample["key_extent"] = place[None]
    axis = "tyx".index(outside)
    moved = place.clone()
    moved[axis] += 1
    sample["query_extent"] = moved[None, None]
    query, key, *extents = sample.values()
    weight = ops().region_contrast(query, key, None, *extents, 0.1, False, False, False)[2][0, 0]
    assert torch.equal(weight.select(axis, 0), torch.ones(2, 2, device=backend.device))
    assert torch.equal(weight.select(axis, 1), torch.zeros(2, 2, device=backend.device))


@pytest.mark.parametrize("argument", ["query", "key"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, 1e-40])
def test_special_values_go_where_log_softmax_sends_them(backend, argument, value):
    sample = region_sample(2, 2, (1, 2, 2), (1, 2, 2), 6)
    sample[argument].view(-1, 6)[2, 1] = value
    sample = {name: v.to(backend.device) for name, v in sample.items()}
    ours = loss_and_gradients(region_contrast, sample, ("query", "key"))
    theirs = loss_and_gradients(region_contrast_reference, sample, ("query", "key"))
    assert ours["loss"].isfinite() == theirs["loss"].isfinite() == (value == 1e-40)
    assert torch.equal(ours["query"].isfinite(), theirs["query"].isfinite())
    assert torch.equal(ours["key"].isfinite(), theirs["key"].isfinite())


def test_a_key_that_cannot_be_costs_those_nothing_that_do_not_want_it(backend):
    """A logit of −infinity has probability 0, and 0 log 0 = 0: only rows that share volume with that cell lose."""
    sample = region_sample(2, 1, (1, 1, 1), (1, 1, 2), 2)
    sample["query"] = torch.ones(2, 1, 1, 1, 1, 2)
    sample["key"][1, 0, 0, 1] = -math.inf
    half = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 0.5]])
    sample["key_extent"] = torch.tensor([[0.0, 1.0]]).expand(2, 3, 2)
    sample["query_extent"] = half.expand(2, 1, 3, 2)
    sample = {name: v.to(backend.device) for name, v in sample.items()}
    loss = region_contrast(**sample)
    assert loss.isfinite()
    torch.testing.assert_close(loss, region_contrast_reference(**sample))
    sample["query_extent"] = half.flip(0).expand(2, 1, 3, 2).to(backend.device)  # across both cells of x
    assert not region_contrast(**sample).isfinite()


def test_cells_outside_the_key_view_still_meet_it_in_the_softmax(backend):
    """What a row without targets holds is multiplied by W = 0: NaN there is seen, and not passed over in silence."""
    sample = region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4)
    sample["query_extent"] = sample["query_extent"] + 1e4
    sample["query"][0, 0, 0, 0, 0, 0] = math.nan
    assert region_contrast(**{name: v.to(backend.device) for name, v in sample.items()}).isnan()


def test_large_logits_do_not_overflow(backend):
    sample = {k: v.to(backend.device) for k, v in region_sample(2, 2, (1, 2, 3), (2, 2, 2), 8).items()}
    wanted = region_contrast_reference(**widened(sample), temperature=1e-3)
    loss = region_contrast(**sample, temperature=1e-3)
    torch.testing.assert_close(loss.cpu().double(), wanted, rtol=1e-5, atol=1e-3)


def test_confident_rows_keep_their_digits(backend):
    """Where every cell finds its own loss and gradients are tiny: small differences of numbers near 1."""
    sample = region_sample(16, 1, (1, 2, 2), (1, 2, 2), 64)
    sample["key"] = torch.eye(64).reshape(16, 1, 2, 2, 64)
    sample["query"] = sample["key"][:, None].clone()
    sample["key_extent"] = torch.tensor([[0.0, 1.0]]).expand(16, 3, 2)
    sample["query_extent"] = sample["key_extent"][:, None]
    sample = {name: value.to(backend.device) for name, value in sample.items()}
    ours = loss_and_gradients(region_contrast, sample, ("query", "key"))
    truth = loss_and_gradients(region_contrast_reference, widened(sample), ("query", "key"))
    assert truth["loss"] < 3e-3
    for name, value in truth.items():
        error = (ours[name].cpu().double() - value).norm() / value.norm()
        assert error < 2e-4, f"{name}: {error:.2g}"


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 2e-3), (torch.float16, 3e-3), (torch.bfloat16, 1e-2)], ids=str
)
def test_what_was_learnt_leaves_no_rounding(backend, dtype, bound):
    """Where p nearly equals S, spread over several cells, gradients are W p - S, not its rounding."""
    sample = region_sample(16, 1, (1, 2, 2), (1, 2, 2), 64)
    unit = torch.tensor([[0.0, 1.0]] * 3).expand(16, 3, 2).contiguous()
    view = unit.clone()
    view[:, 1], view[:, 2] = torch.tensor([0.13, 0.93]), torch.tensor([0.05, 0.81])
    share = soft_correspondence(view, unit, (1, 2, 2), (1, 2, 2))
    query = torch.zeros(16, 4, 16, 4)
    for video in range(16):  # logits log S + 12 for the cells of the own video, 0 for all others
        query[video, :, video] = 0.1 * (share[video].clamp(min=1e-9).log() + 12).clamp(min=0)
    sample["query"] = query.reshape(16, 1, 1, 2, 2, 64).to(dtype)
    sample["key"] = torch.eye(64).reshape(16, 1, 2, 2, 64).to(dtype)
    sample["query_extent"], sample["key_extent"] = view[:, None], unit
    sample = {name: value.to(backend.device) for name, value in sample.items()}
    ours = loss_and_gradients(region_contrast, sample, ("query", "key"))
    truth = loss_and_gradients(region_contrast_reference, widened(sample), ("query", "key"))
    for name in ("query", "key"):
        error = (ours[name].cpu().double() - truth[name]).norm() / truth[name].norm()
        assert error < bound, f"{name}: {error:.2g}"


@pytest.mark.parametrize("argument", ["query_extent", "key_extent"])
@pytest.mark.parametrize("value", [0.5, math.nan, math.inf])
def test_a_view_without_volume(backend, argument, value):
    sample = region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4)
    sample[argument][-1, ..., 1, :] = value
    sample = {name: v.to(backend.device) for name, v in sample.items()}
    if backend.name == "cuda":
        assert region_contrast(**sample).isnan()
        return
    with pytest.raises(ValueError, match=f"{argument} must have a finite length other than 0 .* along y of view"):
        region_contrast(**sample)


# ---- CUDA ------------------------------------------------------------------------------------------------------------


def test_a_single_view_needs_no_axis(backend):
    generator = torch.Generator().manual_seed(5)
    query, key = unit_rows(3, 2, 3, 2, 8, generator=generator), unit_rows(3, 2, 3, 4, 8, generator=generator)
    extents = random_extents(3, generator), random_extents(3, generator)
    share = soft_correspondence(*extents, (2, 3, 2), (2, 3, 4))
    logits = query.double().flatten(0, 3) @ key.double().flatten(0, 3).T / 0.2
    own = torch.log_softmax(logits, dim=1).view(3, 12, 3, 24)[torch.arange(3), :, torch.arange(3)]
    expected = -(share * own).sum(dim=2).mean()
    given = [backend.tensor(value.clone()) for value in (query, key, *extents)]
    given[0].requires_grad_()
    loss = region_contrast(*given, temperature=0.2)
    torch.testing.assert_close(loss.double().cpu(), expected, rtol=1e-5, atol=0, check_dtype=False)
    torch.testing.assert_close(region_contrast_reference(*given, temperature=0.2), loss)
    (gradient,) = torch.autograd.grad(loss, given[0])
    with_axis = [given[0][:, None], given[1], given[2][:, None], given[3]]
    assert torch.equal(region_contrast(*with_axis, temperature=0.2), loss)
    (expected,) = torch.autograd.grad(region_contrast(*with_axis, temperature=0.2), given[0])
    assert torch.equal(gradient, expected)


def test_a_single_view_in_a_compiled_loss(backend):
    generator = torch.Generator().manual_seed(5)
    query, key = unit_rows(3, 2, 3, 2, 8, generator=generator), unit_rows(3, 2, 3, 4, 8, generator=generator)
    given = [backend.tensor(value) for value in (query, key, *(random_extents(3, generator) for _ in range(2)))]
    compiled = torch.compile(lambda *values: region_contrast(*values, temperature=0.2), fullgraph=True)
    torch.testing.assert_close(compiled(*given), region_contrast(*given, temperature=0.2))


def test_a_single_view_that_does_not_fit():
    query, key, extent = torch.ones(2, 1, 2, 2, 4), torch.ones(2, 1, 2, 2, 4), torch.tensor([0.0, 1.0])
    one, many = extent.expand(2, 3, 2), extent.expand(2, 1, 3, 2)
    with pytest.raises(ValueError, match=r"query_extent must be \[B=2, 3, 2\], got \[2, 1, 3, 2\]"):
        region_contrast(query, key, many, one)
    with pytest.raises(ValueError, match=r"query must be \[B, t >= 1, .*\], got \[2, 0, 2, 2, 4\]"):
        region_contrast(query[:, :0], key, one, one)
