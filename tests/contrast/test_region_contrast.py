"""region_contrast on every backend."""

import math
import subprocess
import sys

import pytest
import torch

from motionops.contrast import pairwise_infonce, region_contrast, region_contrast_reference
from motionops.geometry import soft_correspondence
from motionops.library import ops
from tests.contrast.budget import check_budget, loss_and_gradients, widened
from tests.contrast.memory import extra_mebibytes
from tests.contrast.samples import random_extents, unit_rows
from tests.streams import check_side_stream_and_graph

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def region_sample(batch, views, query_grid, key_grid, dim, dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    return {
        "query": unit_rows(batch, views, *query_grid, dim, generator=g, dtype=dtype),
        "key": unit_rows(batch, *key_grid, dim, generator=g, dtype=dtype),
        "query_extent": random_extents(batch * views, g).float().reshape(batch, views, 3, 2),
        "key_extent": random_extents(batch, g).float(),
    }


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


def test_opcheck(backend):
    query, key, *extents = (v.to(backend.device) for v in region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4).values())
    arguments = (query.requires_grad_(), key.requires_grad_(), *extents, 0.1, True, True, False)
    torch.library.opcheck(ops().region_contrast.default, arguments)


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_opcheck_backward(backend, wanted):
    inputs = tuple(v.to(backend.device) for v in region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4).values())
    saved = ops().region_contrast(*inputs, 0.1, True, True, False)[1:]
    grad_loss = torch.ones((), device=backend.device)
    torch.library.opcheck(ops().region_contrast_backward.default, (grad_loss, *inputs, *saved, 0.1, *wanted, False))


def test_strided_inputs(backend):
    sample = {k: v.to(backend.device) for k, v in region_sample(2, 2, (1, 2, 3), (2, 2, 2), 5).items()}
    strided = {name: value.mT.contiguous().mT for name, value in sample.items()}
    assert not any(value.is_contiguous() for value in strided.values())
    wanted = loss_and_gradients(region_contrast, sample, ("query", "key"))
    query, key = (strided.pop(name).requires_grad_() for name in ("query", "key"))
    loss = region_contrast(query, key, **strided)
    assert loss == wanted["loss"]
    for gradient, name in zip(torch.autograd.grad(loss, (query, key)), ("query", "key"), strict=True):
        assert torch.equal(gradient, wanted[name])


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


def test_takes_numpy_arrays():
    sample = region_sample(2, 2, (1, 2, 3), (2, 2, 2), 5)
    assert region_contrast(**{n: v.numpy() for n, v in sample.items()}) == region_contrast(**sample)


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
    weight = ops().region_contrast(*sample.values(), 0.1, False, False, False)[2][0, 0]
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


@pytest.mark.parametrize("batch", [8, 32])
def test_memory_does_not_grow_with_the_pairs(backend, batch):
    if backend.name == "emulated":
        pytest.skip("minutes under the emulator")
    dim, cells = 16, 256
    sample = region_sample(batch, 1, (4, 8, 8), (4, 8, 8), dim)
    sample = {name: value.to(backend.device) for name, value in sample.items()}
    extra = extra_mebibytes(lambda: loss_and_gradients(region_contrast, sample, ("query", "key")), backend.device)
    features = 4 * batch * cells * dim / 2**20
    logits = 4 * (batch * cells) ** 2 / 2**20  # 16 and 256 MiB; S of a video alone 256 KiB
    assert extra < min(logits / 2, 8 + 12 * features)


def test_without_gradients_nothing_is_kept(backend):
    sample = {k: v.to(backend.device) for k, v in region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4).items()}
    sample["query"].requires_grad_()
    wanted = region_contrast(**sample)
    with torch.no_grad():
        loss = region_contrast(**sample)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, wanted.detach())


@pytest.mark.parametrize("wanted", ["query", "key"])
def test_gradient_of_one_alone(backend, wanted):
    sample = {k: v.to(backend.device) for k, v in region_sample(2, 2, (1, 2, 3), (2, 2, 2), 5).items()}
    both = loss_and_gradients(region_contrast, sample, ("query", "key"))
    torch.testing.assert_close(
        loss_and_gradients(region_contrast, sample, (wanted,))[wanted], both[wanted], rtol=1e-5, atol=1e-7
    )


def test_gradient_scales_with_that_of_the_loss(backend):
    sample = {k: v.to(backend.device) for k, v in region_sample(2, 2, (1, 2, 3), (2, 2, 2), 5).items()}
    once = loss_and_gradients(region_contrast, sample, ("query", "key"))
    thrice = loss_and_gradients(lambda **s: 3 * region_contrast(**s), sample, ("query", "key"))
    torch.testing.assert_close(thrice, {name: 3 * value for name, value in once.items()})


@pytest.mark.parametrize("argument", ["query", "key"])
def test_the_forward_operator_must_know_of_the_gradients(backend, argument):
    sample = {k: v.to(backend.device) for k, v in region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4).items()}
    sample[argument].requires_grad_()
    loss = ops().region_contrast(*sample.values(), 0.1, False, False, False)[0]
    with pytest.raises(RuntimeError, match=f"region_contrast: {argument}_gradient must be True"):
        loss.backward()


def test_second_derivative_is_refused(backend):
    sample = {k: v.to(backend.device) for k, v in region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4).items()}
    query = sample["query"].requires_grad_()
    (gradient,) = torch.autograd.grad(region_contrast(**sample), query, create_graph=True)
    with pytest.raises(RuntimeError, match="region_contrast"):
        gradient.sum().backward()


BAD = [
    ({"query": torch.ones(2, 4)}, ValueError, "query"),
    ({"query": torch.ones(2, 2, 1, 2, 1, 4).int()}, TypeError, "query"),
    ({"query": "text"}, TypeError, "query"),
    ({"key": torch.ones(2, 2, 1, 2, 5)}, ValueError, "key"),
    ({"key": torch.ones(3, 2, 1, 2, 4)}, ValueError, "key"),
    ({"query_extent": torch.ones(2, 2, 3)}, ValueError, "query_extent"),
    ({"key_extent": torch.ones(1, 3, 2)}, ValueError, "key_extent"),
    ({"temperature": 0.0}, ValueError, "temperature must be finite and above 0, got 0"),
    ({"temperature": math.nan}, ValueError, "temperature must be finite and above 0, got nan"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD)
def test_bad_arguments(backend, changes, error, message):
    arguments = {
        name: value.to(backend.device) if isinstance(value, torch.Tensor) else value
        for name, value in {**region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4), **changes}.items()
    }
    with pytest.raises(error, match=f"region_contrast: .*{message}"):
        region_contrast(**arguments)


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


@pytest.mark.parametrize("argument", ["key", "query_extent", "key_extent"])
def test_meta_tensors_do_not_mix_with_others(argument):
    sample = region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4)
    sample[argument] = sample[argument].to("meta")
    with pytest.raises(ValueError, match=f"region_contrast: {argument} must be on cpu as query is, got meta"):
        region_contrast(**sample)


def test_compiles_whole(backend):
    query, key, *extents = (v.to(backend.device) for v in region_sample(2, 2, (1, 2, 1), (2, 1, 2), 4).values())
    inputs = (query.requires_grad_(), key.requires_grad_())

    def step(query, key):
        return region_contrast(query, key, *extents) * 2

    loss, wanted = torch.compile(step, fullgraph=True, backend="aot_eager")(*inputs), step(*inputs)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(torch.autograd.grad(loss, inputs), torch.autograd.grad(wanted, inputs))


# ---- the CPU's vector targets ----------------------------------------------------------------------------------------

OTHER_TARGET = """
import torch
from motionops.contrast import region_contrast, region_contrast_reference
from tests.contrast.budget import check_budget, loss_and_gradients, widened
from tests.contrast.test_region_contrast import region_sample
for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
    for shape in ((1, 1, (1, 1, 1), (1, 1, 1), 1), (3, 2, (2, 3, 3), (3, 4, 4), 33)):
        sample = region_sample(*shape, dtype=dtype)
        check_budget(
            loss_and_gradients(region_contrast, sample, ("query", "key")),
            loss_and_gradients(region_contrast_reference, sample, ("query", "key")),
            loss_and_gradients(region_contrast_reference, widened(sample), ("query", "key")),
            dtype,
        )
"""


@pytest.mark.parametrize("target", ["baseline", "avx2"])
def test_narrower_vector_targets(target, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_SIMD", target)
    done = subprocess.run([sys.executable, "-c", OTHER_TARGET], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- CUDA ------------------------------------------------------------------------------------------------------------


def test_side_stream_and_graph(backend):
    sample = region_sample(4, 2, (2, 4, 4), (4, 4, 4), 64)
    sample = {name: value.to(backend.device) for name, value in sample.items()}
    check_side_stream_and_graph(lambda: loss_and_gradients(region_contrast, sample, ("query", "key")), backend.device)


def test_cuda_equals_cpu(backend):
    if backend.name != "cuda":
        pytest.skip("needs a GPU")
    sample = region_sample(6, 3, (2, 4, 4), (4, 5, 4), 128)
    on_cpu = loss_and_gradients(region_contrast, sample, ("query", "key"))
    on_gpu = loss_and_gradients(region_contrast, {n: v.cuda() for n, v in sample.items()}, ("query", "key"))
    for name, value in on_cpu.items():
        torch.testing.assert_close(on_gpu[name].cpu(), value, rtol=1e-4, atol=1e-6)


def test_float64_is_refused_on_cuda(backend):
    if backend.name == "cpu":
        pytest.skip("the CPU takes float64")
    sample = region_sample(2, 1, (1, 1, 1), (1, 1, 1), 4, dtype=torch.float64)
    with pytest.raises(
        TypeError, match="region_contrast: key must be float32, bfloat16 or float16 on CUDA, got float64"
    ):
        region_contrast(**{n: v.to(backend.device) for n, v in sample.items()})
