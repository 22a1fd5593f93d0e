"""queue_infonce on every backend."""

import importlib
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F

from motionops.contrast import FeatureQueue, InfoNCE, queue_infonce, queue_infonce_reference
from tests.contrast.budget import check_budget, loss_and_gradients, widened
from tests.contrast.samples import queue_sample, unit_rows
from tests.emulator.machine import multiprocessors

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# B, K, D, E: nothing, one, odd tails, more rows and columns than a tile, more rows than threads in a merge.
SHAPES = [
    (0, 5, 3, 0),
    (1, 0, 1, 0),
    (1, 1, 1, 1),
    (3, 0, 8, 5),
    (5, 37, 7, 0),
    (17, 97, 33, 3),
    (70, 300, 64, 13),
    (64, 512, 128, 0),
    (300, 90, 20, 2),
]


@pytest.fixture
def to_backend(backend):
    """Moves a sample to the backend, or skips what it does not take."""

    def move(sample):
        if backend.name != "cpu" and any(value.dtype == torch.float64 for value in sample.values()):
            pytest.skip("float64 products are for the CPU")
        return {name: value.to(backend.device) for name, value in sample.items()}

    return move


# ---- shapes and dtypes -----------------------------------------------------------------------------------------------


@pytest.mark.every_simd_target
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("ids", [False, True], ids=["all", "ids"])
def test_matches_reference(to_backend, shape, dtype, ids):
    rows, queue_rows, dim, extra_rows = shape
    sample = to_backend(queue_sample(rows, queue_rows, dim, extra_rows=extra_rows, ids=ids, dtype=dtype))
    result = queue_infonce(**sample)
    assert isinstance(result, InfoNCE)
    assert result.loss.shape == ()
    assert result.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert result.rank.shape == (rows,)
    assert result.rank.dtype == torch.int32
    check_budget(
        loss_and_gradients(queue_infonce, sample, ("query", "key")),
        loss_and_gradients(queue_infonce_reference, sample, ("query", "key")),
        loss_and_gradients(queue_infonce_reference, widened(sample), ("query", "key")),
        dtype,
    )
    # A negative within rounding of the positive may fall on either side.
    close = near_ties(sample)
    assert ((result.rank.cpu() - queue_infonce_reference(**sample).rank.cpu()).abs() <= close).all()


def near_ties(sample):
    """How many negatives of each query score as its positive does, up to rounding."""
    sample = widened(sample)
    columns = torch.cat([sample["queue"], sample.get("extra_negatives", sample["queue"][:0])])
    positive = (sample["query"] * sample["key"]).sum(1, keepdim=True)
    return ((sample["query"] @ columns.T - positive).abs() < 1e-6).sum(1)


@pytest.mark.parametrize("features", DTYPES, ids=str)
@pytest.mark.parametrize("queue", DTYPES, ids=str)
def test_products_are_taken_in_the_queues_type(to_backend, features, queue):
    sample = queue_sample(9, 50, 24, extra_rows=3, dtype=features)
    sample["queue"] = sample["queue"].to(queue)
    sample = to_backend(sample)
    ours = loss_and_gradients(queue_infonce, sample, ("query", "key"))
    assert ours["query"].dtype == ours["key"].dtype == features
    rounded = {name: value.to(queue) for name, value in sample.items()}
    check_budget(
        ours,
        loss_and_gradients(queue_infonce_reference, sample, ("query", "key")),
        loss_and_gradients(queue_infonce_reference, widened(rounded), ("query", "key")),
        queue,
    )


# ---- values known by hand --------------------------------------------------------------------------------------------


@pytest.mark.every_simd_target
@pytest.mark.parametrize("count", [1, 10, 1000])
def test_identical_embeddings_give_log_of_the_count(to_backend, count):
    same = F.normalize(torch.ones(1, 16), dim=1)
    sample = to_backend({"query": same.repeat(3, 1), "key": same.repeat(3, 1), "queue": same.repeat(count, 1)})
    result = queue_infonce(**sample)
    assert result.loss.item() == pytest.approx(math.log(count + 1), rel=1e-6)
    # none scores above the positive: equal columns give equal logits, to the last bit
    assert result.rank.tolist() == [0, 0, 0]


def test_values_by_hand(to_backend):
    sample = to_backend(
        {
            "query": torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
            "key": torch.tensor([[0.5, 9.0], [1.0, 0.0]]),
            "queue": torch.tensor([[1.0, 1.0], [0.0, -1.0], [0.25, 3.0]]),
            "extra_negatives": torch.tensor([[2.0, 0.5]]),
        }
    )
    # logits at temperature 0.5: row 0: positive 1; 2, 0, 0.5; 4. Row 1: positive 0; 4, -4, 12; 2.
    result = queue_infonce(**sample, temperature=0.5)
    first = math.log(sum(math.exp(x) for x in (1, 2, 0, 0.5, 4))) - 1
    second = math.log(sum(math.exp(x) for x in (0, 4, -4, 12, 2)))
    assert result.loss.item() == pytest.approx((first + second) / 2, rel=1e-6)
    assert result.rank.tolist() == [2, 3]


def test_ids_leave_out_the_querys_own_video(to_backend):
    sample = to_backend(queue_sample(3, 6, 4))
    ids = {
        "query_ids": torch.tensor([7, -1, 2**40]),
        "queue_ids": torch.tensor([7, 7, -1, 2**40, 2**40 + 2**32, 5]),
    }
    result = queue_infonce(**sample, **{name: value.to(sample["query"].device) for name, value in ids.items()})
    total, ranks = 0.0, []
    for row, counted in enumerate([[2, 3, 4, 5], [0, 1, 3, 4, 5], [0, 1, 2, 4, 5]]):
        alone = queue_infonce(sample["query"][row : row + 1], sample["key"][row : row + 1], sample["queue"][counted])
        total += alone.loss.item()
        ranks += alone.rank.tolist()
    assert result.loss.item() == pytest.approx(total / 3, rel=1e-6)
    assert result.rank.tolist() == ranks


def test_a_queue_of_the_own_video_alone_counts_nothing(to_backend):
    sample = to_backend(queue_sample(2, 5, 4))
    ids = {"query_ids": torch.zeros(2).long(), "queue_ids": torch.zeros(5).long()}
    result = queue_infonce(**sample, **{name: value.to(sample["query"].device) for name, value in ids.items()})
    assert result.loss.item() == 0
    assert result.rank.tolist() == [0, 0]


def test_equals_torch_cross_entropy(to_backend):
    sample = to_backend(queue_sample(12, 200, 32, extra_rows=7))
    columns = torch.cat([sample["queue"], sample["extra_negatives"]])
    positive = (sample["query"] * sample["key"]).sum(1, keepdim=True)
    logits = torch.cat([positive, sample["query"] @ columns.T], dim=1) / 0.07
    target = torch.zeros(12, dtype=torch.int64, device=logits.device)
    loss = queue_infonce(**sample, temperature=0.07).loss
    torch.testing.assert_close(loss, F.cross_entropy(logits, target), rtol=2e-6, atol=2e-6)


# ---- special values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["query", "key", "queue", "extra_negatives"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, 1e-40])
def test_special_values_go_where_log_softmax_sends_them(to_backend, argument, value):
    sample = queue_sample(5, 40, 6, extra_rows=3)
    sample[argument][2, 1] = value
    sample = to_backend(sample)
    ours = loss_and_gradients(queue_infonce, sample, ("query", "key"))
    theirs = loss_and_gradients(queue_infonce_reference, sample, ("query", "key"))
    torch.testing.assert_close(ours["loss"], theirs["loss"], equal_nan=True, rtol=1e-5, atol=1e-5)
    assert torch.equal(ours["query"].isfinite(), theirs["query"].isfinite())
    assert torch.equal(ours["key"].isfinite(), theirs["key"].isfinite())


def test_a_masked_row_may_hold_anything(to_backend):
    sample = queue_sample(2, 5, 4)
    clean = queue_infonce(sample["query"], sample["key"], sample["queue"][1:]).loss.item()
    sample["queue"][0] = math.nan
    ids = {"query_ids": torch.tensor([3, 3]), "queue_ids": torch.tensor([3, 0, 0, 0, 0])}
    assert queue_infonce(**to_backend({**sample, **ids})).loss.item() == pytest.approx(clean, rel=1e-6)


def test_large_logits_do_not_overflow(to_backend):
    sample = to_backend(queue_sample(4, 30, 8))
    loss = queue_infonce(**sample, temperature=1e-3).loss
    torch.testing.assert_close(loss, queue_infonce_reference(**sample, temperature=1e-3).loss, rtol=1e-5, atol=1e-3)


# ---- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [False, True])
def test_gradcheck(backend, ids):
    if backend.name != "cpu":
        pytest.skip("float64 products are for the CPU")
    sample = queue_sample(3, 11, 5, extra_rows=2, ids=ids, dtype=torch.float64)
    query, key = sample.pop("query").requires_grad_(), sample.pop("key").requires_grad_()
    assert torch.autograd.gradcheck(lambda q, k: queue_infonce(q, k, temperature=0.3, **sample).loss, (query, key))


# ---- bad arguments ---------------------------------------------------------------------------------------------------


# ---- the operator as torch sees it -----------------------------------------------------------------------------------


def test_registering_names_the_operators_of_a_namespace():
    module = importlib.import_module("motionops.contrast.queue_infonce")
    with pytest.raises(RuntimeError, match="no_such_namespace"):
        module.register("no_such_namespace")


# ---- CUDA ------------------------------------------------------------------------------------------------------------


def test_more_partial_results_than_a_round_of_the_merge(backend):
    # 132 multiprocessors, as an H100 has: 133 workers leave a part of every row, and a merge takes 128 of them at once.
    if backend.name == "cpu":
        pytest.skip("has no partial results")
    sample = queue_sample(3, 17000, 8)
    sample["queue"][16000:] *= 3  # the largest logits come last: what was added up before must be rescaled
    sample = {name: value.to(backend.device) for name, value in sample.items()}
    with multiprocessors(132) if backend.name == "emulated" else nullcontext():
        ours = loss_and_gradients(queue_infonce, sample, ("query", "key"))
    check_budget(
        ours,
        loss_and_gradients(queue_infonce_reference, sample, ("query", "key")),
        loss_and_gradients(queue_infonce_reference, widened(sample), ("query", "key")),
        torch.float32,
    )


def test_host_threads_share_a_kernel(backend):
    # With 128 features one chunk passes through shared memory, with 136 two through less of it, in the same kernel.
    if backend.name != "cuda":
        pytest.skip("needs a GPU")
    samples = [queue_sample(8, 200, dim, dtype=torch.bfloat16) for dim in (128, 136)]
    samples = [{name: value.cuda() for name, value in sample.items()} for sample in samples]
    wanted = [queue_infonce(**sample).loss.item() for sample in samples]

    def often(number: int) -> float:
        for _ in range(4000):
            loss = queue_infonce(**samples[number]).loss
        return loss.item()

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(often, [0, 1, 0, 1])) == wanted * 2


CAPTURED_FIRST = """
import torch
from motionops.contrast import queue_infonce
from tests.contrast.samples import queue_sample
sample = {name: value.cuda() for name, value in queue_sample(8, 200, 136, dtype=torch.bfloat16).items()}
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    captured = queue_infonce(**sample).loss
graph.replay()
torch.testing.assert_close(captured, queue_infonce(**sample).loss)
"""


def test_the_first_call_is_captured(backend):
    if backend.name != "cuda":
        pytest.skip("needs a GPU")
    done = subprocess.run([sys.executable, "-c", CAPTURED_FIRST], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unit_rows_are_units():
    rows = unit_rows(5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(5))


def test_a_feature_queue_is_taken_with_its_ids(backend):
    sample = queue_sample(6, 40, 16, ids=True)
    query, key, rows, ids, owners = (
        backend.tensor(sample[name]) for name in ("query", "key", "queue", "query_ids", "queue_ids")
    )
    queue = FeatureQueue(40, 16).to(backend.device)
    queue.enqueue(rows, owners)
    for function in (queue_infonce, queue_infonce_reference):
        for given, meant in (
            ({}, {}),
            ({"query_ids": ids}, {"query_ids": ids, "queue_ids": owners}),
            ({"query_ids": ids, "queue_ids": owners + 1}, {"query_ids": ids, "queue_ids": owners + 1}),
        ):
            ours, expected = function(query, key, queue, **given), function(query, key, rows, **meant)
            assert torch.equal(ours.loss, expected.loss)
            assert torch.equal(ours.rank, expected.rank)
    excluded = queue_infonce(query, key, queue, query_ids=ids).loss
    assert excluded < queue_infonce(query, key, queue).loss  # the sample has rows of the queries' own videos


def test_a_feature_queue_in_a_compiled_loss(backend):
    query, key, rows, ids = (
        backend.tensor(queue_sample(6, 40, 16, ids=True)[name]) for name in ("query", "key", "queue", "query_ids")
    )
    queue = FeatureQueue(40, 16).to(backend.device)
    queue.enqueue(rows)
    compiled = torch.compile(lambda q, k: queue_infonce(q, k, queue, query_ids=ids).loss, fullgraph=True)
    torch.testing.assert_close(compiled(query, key), queue_infonce(query, key, queue, query_ids=ids).loss)


def test_a_feature_queue_of_another_width_is_named():
    rows = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"queue_infonce: queue must be \[K, D=3\], got \[5, 4\]"):
        queue_infonce(rows, rows, FeatureQueue(5, 4))
