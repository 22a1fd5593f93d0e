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

from motionops.contrast import InfoNCE, queue_infonce, queue_infonce_reference
from motionops.library import ops
from tests.contrast.budget import check_budget, loss_and_gradients, widened
from tests.contrast.samples import queue_sample, unit_rows
from tests.emulator.machine import multiprocessors
from tests.streams import check_side_stream_and_graph

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


def test_strided_inputs(to_backend):
    sample = to_backend(queue_sample(6, 40, 10, extra_rows=4, ids=True))
    strided = {
        name: (value.T.contiguous().T if value.ndim == 2 else torch.stack([value, value], 1)[:, 0])
        for name, value in sample.items()
    }
    assert not any(value.is_contiguous() for value in strided.values())
    wanted, ours = queue_infonce(**sample), queue_infonce(**strided)
    assert ours.loss == wanted.loss
    assert torch.equal(ours.rank, wanted.rank)


def test_takes_numpy_arrays():
    sample = queue_sample(4, 9, 5, ids=True)
    arrays = {name: value.numpy() for name, value in sample.items()}
    assert queue_infonce(**arrays).loss == queue_infonce(**sample).loss


# ---- values known by hand --------------------------------------------------------------------------------------------


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


def test_only_query_and_key_get_gradients(to_backend):
    sample = to_backend(queue_sample(4, 9, 5, extra_rows=2))
    for value in sample.values():
        value.requires_grad_()
    queue_infonce(**sample).loss.backward()
    assert sample["query"].grad is not None
    assert sample["key"].grad is not None
    assert sample["queue"].grad is None
    assert sample["extra_negatives"].grad is None


@pytest.mark.parametrize("wanted", ["query", "key"])
def test_gradient_of_one_alone(to_backend, wanted):
    sample = to_backend(queue_sample(4, 9, 5))
    both = loss_and_gradients(queue_infonce, sample, ("query", "key"))
    assert torch.equal(loss_and_gradients(queue_infonce, sample, (wanted,))[wanted], both[wanted])


def test_without_gradients_nothing_is_kept(to_backend):
    sample = to_backend(queue_sample(4, 9, 5))
    sample["query"].requires_grad_()
    with torch.no_grad():
        assert not queue_infonce(**sample).loss.requires_grad


def test_gradient_scales_with_that_of_the_loss(to_backend):
    sample = to_backend(queue_sample(4, 9, 5))
    query = sample.pop("query").requires_grad_()
    (once,) = torch.autograd.grad(queue_infonce(query, **sample).loss, query)
    (thrice,) = torch.autograd.grad(3 * queue_infonce(query, **sample).loss, query)
    torch.testing.assert_close(thrice, 3 * once)


def test_second_derivative_is_refused(to_backend):
    sample = to_backend(queue_sample(4, 9, 5))
    query = sample.pop("query").requires_grad_()
    (gradient,) = torch.autograd.grad(queue_infonce(query, **sample).loss, query, create_graph=True)
    with pytest.raises(RuntimeError, match="queue_infonce"):
        gradient.sum().backward()


# ---- bad arguments ---------------------------------------------------------------------------------------------------


def changed(**changes):
    sample = queue_sample(4, 9, 5, extra_rows=2)
    sample.update({"query_ids": torch.zeros(4).long(), "queue_ids": torch.zeros(9).long()})
    sample.update(changes)
    return {name: value for name, value in sample.items() if value is not None}


BAD = [
    ({"query": torch.ones(4)}, ValueError, r"query must be \[B, D >= 1\], got \[4\]"),
    ({"query": torch.ones(4, 0)}, ValueError, r"query must be \[B, D >= 1\], got \[4, 0\]"),
    ({"query": torch.ones(4, 5).int()}, TypeError, "query must be float32, .*, got int32"),
    ({"query": "text"}, TypeError, "query must be a tensor"),
    ({"key": torch.ones(3, 5)}, ValueError, r"key must be \[B=4, D=5\], got \[3, 5\]"),
    ({"key": torch.ones(4, 5).bool()}, TypeError, "key must be float32, .*, got bool"),
    ({"queue": torch.ones(5, 9)}, ValueError, r"queue must be \[K, D=5\], got \[5, 9\]"),
    ({"queue": torch.ones(5)}, ValueError, r"queue must be \[K, D=5\], got \[5\]"),
    ({"queue": torch.ones(9, 5).long()}, TypeError, "queue must be float32, .*, got int64"),
    ({"extra_negatives": torch.ones(2, 4)}, ValueError, r"extra_negatives must be \[E, D=5\], got \[2, 4\]"),
    ({"extra_negatives": torch.ones(2, 5).int()}, TypeError, "extra_negatives must be float32, .*, got int32"),
    ({"query_ids": None}, ValueError, "query_ids and queue_ids must be given together, got only queue_ids"),
    ({"queue_ids": None}, ValueError, "query_ids and queue_ids must be given together, got only query_ids"),
    ({"query_ids": torch.zeros(4).int()}, TypeError, "query_ids must be int64, got int32"),
    ({"queue_ids": torch.zeros(9)}, TypeError, "queue_ids must be int64, got float32"),
    ({"query_ids": torch.zeros(5).long()}, ValueError, r"query_ids must be \[B=4\], got \[5\]"),
    ({"queue_ids": torch.zeros(9, 1).long()}, ValueError, r"queue_ids must be \[K=9\], got \[9, 1\]"),
    ({"temperature": 0.0}, ValueError, "temperature must be finite and above 0, got 0"),
    ({"temperature": -0.1}, ValueError, "temperature must be finite and above 0, got -0.1"),
    ({"temperature": math.nan}, ValueError, "temperature must be finite and above 0, got nan"),
    ({"temperature": math.inf}, ValueError, "temperature must be finite and above 0, got inf"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD)
def test_bad_arguments(backend, changes, error, message):
    arguments = {
        name: value.to(backend.device) if isinstance(value, torch.Tensor) else value
        for name, value in changed(**changes).items()
    }
    with pytest.raises(error, match=f"queue_infonce: .*{message}"):
        queue_infonce(**arguments)


@pytest.mark.parametrize("argument", ["key", "queue", "extra_negatives", "query_ids", "queue_ids"])
def test_devices_must_agree(backend, argument):
    if backend.name != "cuda":
        pytest.skip("needs a second device")
    arguments = {name: value if name == argument else value.to(backend.device) for name, value in changed().items()}
    with pytest.raises(ValueError, match=f"queue_infonce: {argument} must be on cuda"):
        queue_infonce(**arguments)


@pytest.mark.parametrize("argument", ["key", "queue", "extra_negatives", "query_ids", "queue_ids"])
def test_meta_tensors_do_not_mix_with_others(argument):
    arguments = changed()
    arguments[argument] = arguments[argument].to("meta")
    with pytest.raises(ValueError, match=f"queue_infonce: {argument} must be on cpu as query is, got meta"):
        queue_infonce(**arguments)


# ---- the operator as torch sees it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("query_gradient", [False, True])
def test_opcheck_forward(backend, to_backend, ids, query_gradient):
    sample = to_backend(queue_sample(4, 9, 5, extra_rows=2, ids=ids))
    torch.library.opcheck(
        ops().queue_infonce.default,
        (
            sample["query"].requires_grad_(query_gradient),
            sample["key"].requires_grad_(),
            sample["queue"],
            sample["extra_negatives"],
            sample.get("query_ids"),
            sample.get("queue_ids"),
            0.1,
            query_gradient,
            False,
        ),
    )


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_opcheck_backward(backend, to_backend, wanted):
    sample = to_backend(queue_sample(4, 9, 5))
    saved = ops().queue_infonce(sample["query"], sample["key"], sample["queue"], None, None, None, 0.1, True, False)[2:]
    grad_loss = torch.ones((), device=backend.device)
    arguments = (grad_loss, sample["query"], sample["key"], *saved, 0.1, torch.float32, *wanted)
    torch.library.opcheck(ops().queue_infonce_backward.default, arguments)


def test_compiles_whole(backend, to_backend):
    sample = to_backend(queue_sample(6, 20, 8, extra_rows=2, ids=True))

    def step(query, key, **others):
        result = queue_infonce(query, key, **others)
        return result.loss * 2, result.rank

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    query, key = sample.pop("query").requires_grad_(), sample.pop("key").requires_grad_()
    loss, rank = compiled(query, key, **sample)
    gradients = torch.autograd.grad(loss, (query, key))
    wanted, wanted_rank = step(query, key, **sample)
    torch.testing.assert_close(loss, wanted)
    assert torch.equal(rank, wanted_rank)
    torch.testing.assert_close(gradients, torch.autograd.grad(wanted, (query, key)))


def test_registering_names_the_operators_of_a_namespace():
    module = importlib.import_module("motionops.contrast.queue_infonce")
    with pytest.raises(RuntimeError, match="no_such_namespace"):
        module.register("no_such_namespace")


# ---- the CPU's vector targets ----------------------------------------------------------------------------------------

OTHER_TARGET = """
import torch
from motionops.contrast import queue_infonce, queue_infonce_reference
from tests.contrast.budget import check_budget, loss_and_gradients, widened
from tests.contrast.samples import queue_sample
for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
    for shape in ((1, 1, 1, 1), (17, 97, 33, 3), (70, 300, 64, 13)):
        rows, queue_rows, dim, extra_rows = shape
        sample = queue_sample(rows, queue_rows, dim, extra_rows=extra_rows, ids=True, dtype=dtype)
        check_budget(
            loss_and_gradients(queue_infonce, sample, ("query", "key")),
            loss_and_gradients(queue_infonce_reference, sample, ("query", "key")),
            loss_and_gradients(queue_infonce_reference, widened(sample), ("query", "key")),
            dtype,
        )
    same = torch.full((40, 24), 0.3, dtype=dtype)
    assert queue_infonce(same[:3], same[:3], same).rank.tolist() == [0, 0, 0]
"""


@pytest.mark.parametrize("target", ["baseline", "avx2"])
def test_narrower_vector_targets(target, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_SIMD", target)
    done = subprocess.run([sys.executable, "-c", OTHER_TARGET], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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


def test_side_stream_and_graph(backend):
    sample = queue_sample(16, 600, 64, ids=True)
    sample = {name: value.to(backend.device) for name, value in sample.items()}
    check_side_stream_and_graph(lambda: loss_and_gradients(queue_infonce, sample, ("query",)), backend.device)


def test_cuda_equals_cpu(backend):
    if backend.name != "cuda":
        pytest.skip("needs a GPU")
    sample = queue_sample(40, 3000, 128, extra_rows=9, ids=True)
    on_cpu = loss_and_gradients(queue_infonce, sample, ("query", "key"))
    on_gpu = loss_and_gradients(queue_infonce, {name: value.cuda() for name, value in sample.items()}, ("query", "key"))
    for name, value in on_cpu.items():
        torch.testing.assert_close(on_gpu[name].cpu(), value, rtol=1e-4, atol=1e-6)


def test_float64_is_refused_on_cuda(backend):
    if backend.name == "cpu":
        pytest.skip("the CPU takes float64")
    sample = {name: value.to(backend.device) for name, value in queue_sample(2, 3, 4, dtype=torch.float64).items()}
    with pytest.raises(
        TypeError, match="queue_infonce: queue must be float32, bfloat16 or float16 on CUDA, got float64"
    ):
        queue_infonce(**sample)


def test_unit_rows_are_units():
    rows = unit_rows(5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(5))
