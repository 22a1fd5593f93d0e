"""pairwise_infonce on every backend."""

import math

import pytest
import torch
import torch.nn.functional as F

from motionops.contrast import InfoNCE, pairwise_infonce, pairwise_infonce_reference, queue_infonce
from motionops.library import ops
from tests.contrast.budget import check_budget, loss_and_gradients, widened
from tests.contrast.samples import pairwise_sample

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# N, M, D: nothing, one, odd tails, hard negatives, more rows and columns than a tile; panels where D > 128.
SHAPES = [
    (0, 0, 3),
    (0, 4, 3),
    (1, 1, 1),
    (3, 3, 8),
    (5, 9, 7),
    (17, 40, 33),
    (70, 70, 64),
    (66, 150, 128),
    (9, 20, 300),
    (300, 310, 20),
    (0, 4, 130),
    (1, 1, 129),
    (70, 151, 136),
]
STREAMED, IN_PANELS = 5, 130  # widths that are taken one way and the other
WIDTHS = pytest.mark.parametrize("dim", [STREAMED, IN_PANELS], ids=["streamed", "in panels"])


@pytest.fixture
def to_backend(backend):
    """Moves a sample to the backend, or skips what it does not take."""

    def move(sample):
        if backend.name != "cpu" and any(value.dtype == torch.float64 for value in sample.values()):
            pytest.skip("float64 products are for the CPU")
        return {name: value.to(backend.device) for name, value in sample.items()}

    return move


@pytest.mark.every_simd_target
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(to_backend, shape, dtype):
    sample = to_backend(pairwise_sample(*shape, dtype=dtype))
    result = pairwise_infonce(**sample)
    assert isinstance(result, InfoNCE)
    assert result.loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert result.rank.dtype == torch.int32
    check_budget(
        loss_and_gradients(pairwise_infonce, sample, ("query", "key")),
        loss_and_gradients(pairwise_infonce_reference, sample, ("query", "key")),
        loss_and_gradients(pairwise_infonce_reference, widened(sample), ("query", "key")),
        dtype,
    )
    check_ranks(result.rank, sample)


def check_ranks(rank, sample):
    """A negative within rounding of the positive may fall on either side."""
    scores = widened(sample)["query"] @ widened(sample)["key"].T
    close = ((scores - scores.diagonal()[:, None]).abs() < 1e-6).sum(1)
    assert ((rank.cpu() - pairwise_infonce_reference(**sample).rank.cpu()).abs() <= close).all()


# The CPU's ways to the key gradient: all probabilities kept at once, a few panels at a time, one panel a thread, and a
# pass of its own because there are too many columns, or because a thread has only a range of them.
WAYS = [(600, 700, 20), (800, 2100, 5), (300, 9000, 6), (130, 21000, 3), (40, 500, 17)]


@pytest.mark.parametrize("ids", [False, True], ids=["", "ids"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", WAYS, ids=str)
def test_every_way_to_the_key_gradient(shape, threads, ids):
    sample = pairwise_sample(*shape, ids=ids, dtype=torch.float64)
    # Later keys lie nearer: the largest logit moves from block to block, by more than e^700 in all.
    sample["key"] = sample["key"] * torch.linspace(0.1, 80, len(sample["key"]), dtype=torch.float64)[:, None]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        ours = loss_and_gradients(pairwise_infonce, sample, ("query", "key"))
    finally:
        torch.set_num_threads(before)
    wanted = loss_and_gradients(pairwise_infonce_reference, sample, ("query", "key"))
    for name, value in wanted.items():
        scale = value.abs().max().item()
        torch.testing.assert_close(ours[name], value, rtol=1e-11, atol=1e-13 * scale, msg=name)


@WIDTHS
@pytest.mark.parametrize("features", DTYPES, ids=str)
@pytest.mark.parametrize("key", DTYPES, ids=str)
def test_products_are_taken_in_the_keys_type(to_backend, dim, features, key):
    sample = pairwise_sample(9, 20, dim, dtype=features)
    sample["key"] = sample["key"].to(key)
    sample = to_backend(sample)
    ours = loss_and_gradients(pairwise_infonce, sample, ("query", "key"))
    assert ours["query"].dtype == features
    assert ours["key"].dtype == key
    rounded = {name: value.to(key) for name, value in sample.items()}
    check_budget(
        ours,
        loss_and_gradients(pairwise_infonce_reference, sample, ("query", "key")),
        loss_and_gradients(pairwise_infonce_reference, widened(rounded), ("query", "key")),
        key,
    )


def test_values_by_hand(to_backend):
    sample = to_backend(
        {
            "query": torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
            "key": torch.tensor([[0.5, 9.0], [1.0, 0.0], [2.0, 0.25]]),
        }
    )
    # logits at temperature 0.5: row 0: 1, 2, 4; row 1: 36, 0, 1
    result = pairwise_infonce(**sample, temperature=0.5)
    first = math.log(sum(math.exp(x) for x in (1, 2, 4))) - 1
    second = math.log(sum(math.exp(x) for x in (36, 0, 1)))
    assert result.loss.item() == pytest.approx((first + second) / 2, rel=1e-6)
    assert result.rank.tolist() == [2, 2]


@WIDTHS
@pytest.mark.parametrize("count", [1, 10, 200])
def test_identical_embeddings_give_log_of_the_count(to_backend, dim, count):
    same = F.normalize(torch.ones(1, dim), dim=1)
    result = pairwise_infonce(**to_backend({"query": same.repeat(1, 1), "key": same.repeat(count, 1)}))
    assert result.loss.item() == pytest.approx(math.log(count), rel=1e-6, abs=1e-6)
    assert result.rank.tolist() == [0]


def test_hard_negatives_are_a_queue(to_backend):
    """Keys without a query of their own count as the rows of a queue do."""
    sample = to_backend(pairwise_sample(1, 40, 12))
    alone = queue_infonce(sample["query"], sample["key"][:1], sample["key"][1:])
    ours = pairwise_infonce(**sample)
    torch.testing.assert_close(ours.loss, alone.loss)
    assert torch.equal(ours.rank, alone.rank)


@WIDTHS
@pytest.mark.parametrize("argument", ["query", "key"])
@pytest.mark.parametrize("row", [2, 8], ids=["positive", "hard negative"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, 1e-40])
def test_special_values_go_where_log_softmax_sends_them(to_backend, dim, argument, row, value):
    if dim == IN_PANELS and value == 3e38:
        pytest.skip("logits of 1e38: the reference's sum of the losses overflows, their mean does not")
    sample = pairwise_sample(7 if argument == "key" else 9, 12, dim)
    sample[argument][row, 1] = value
    sample = to_backend(sample)
    ours = loss_and_gradients(pairwise_infonce, sample, ("query", "key"))
    theirs = loss_and_gradients(pairwise_infonce_reference, sample, ("query", "key"))
    torch.testing.assert_close(ours["loss"], theirs["loss"], equal_nan=True, rtol=1e-5, atol=1e-5)
    assert torch.equal(ours["query"].isfinite(), theirs["query"].isfinite())
    assert torch.equal(ours["key"].isfinite(), theirs["key"].isfinite())


@WIDTHS
def test_large_logits_do_not_overflow(to_backend, dim):
    sample = to_backend(pairwise_sample(20, 30, dim))
    loss = pairwise_infonce(**sample, temperature=1e-3).loss
    torch.testing.assert_close(loss, pairwise_infonce_reference(**sample, temperature=1e-3).loss, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("dim", [16, IN_PANELS], ids=["streamed", "in panels"])
def test_confident_rows_keep_their_digits(to_backend, dim):
    """Where every positive stands far above the rest the loss is tiny, and so are the gradients: none rounds to 0."""
    same = torch.eye(16, dim)
    sample = to_backend({"query": same, "key": same})
    ours = loss_and_gradients(pairwise_infonce, sample, ("query", "key"))
    truth = loss_and_gradients(pairwise_infonce_reference, widened(sample), ("query", "key"))
    for name, value in truth.items():
        torch.testing.assert_close(ours[name].cpu().double(), value, rtol=1e-3, atol=1e-8)
    assert 0 < ours["loss"].item() < 1e-3


@pytest.mark.parametrize("ids", [False, True], ids=["", "ids"])
def test_gradcheck(backend, ids):
    if backend.name != "cpu":
        pytest.skip("float64 products are for the CPU")
    sample = pairwise_sample(4, 7, 5, ids=ids, dtype=torch.float64)
    arguments = tuple(sample.pop(name).requires_grad_() for name in ("query", "key"))
    assert torch.autograd.gradcheck(lambda q, k: pairwise_infonce(q, k, temperature=0.3, **sample).loss, arguments)


@WIDTHS
def test_no_rows_give_no_gradient(to_backend, dim):
    sample = to_backend(pairwise_sample(0, 6, dim))
    ours = loss_and_gradients(pairwise_infonce, sample, ("query", "key"))
    assert ours["loss"].item() == 0
    assert ours["query"].shape == (0, dim)
    assert (ours["key"] == 0).all()


# ---- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.every_simd_target
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(0, 4, 3), (5, 9, 7), (300, 310, 20), (70, 151, 136)], ids=str)
def test_matches_reference_with_ids(to_backend, shape, dtype):
    sample = to_backend(pairwise_sample(*shape, ids=True, dtype=dtype))
    check_budget(
        loss_and_gradients(pairwise_infonce, sample, ("query", "key")),
        loss_and_gradients(pairwise_infonce_reference, sample, ("query", "key")),
        loss_and_gradients(pairwise_infonce_reference, widened(sample), ("query", "key")),
        dtype,
    )
    check_ranks(pairwise_infonce(**sample).rank, sample)


@WIDTHS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_keys_of_the_querys_own_video_are_no_negatives(to_backend, dim, dtype):
    """Row by row, by the formula: its own key stays, whatever that one's id is."""
    sample = to_backend(pairwise_sample(5, 9, dim, dtype=dtype))
    ids = torch.tensor([7, 7, -1, 2**40, 3]), torch.tensor([7, 7, -1, 2**40, 5, 7, -1, 2**40 + 2**32, 3])
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    wide = {name: value.double().cpu().requires_grad_() for name, value in sample.items()}
    losses, ranks = [], []
    for i, own in enumerate(ids[0]):
        scores = (wide["key"] @ wide["query"][i]) / temperature
        others = [j for j in range(9) if j != i and ids[1][j] != own]
        losses.append(torch.cat([scores[i : i + 1], scores[others]]).logsumexp(dim=0) - scores[i])
        ranks.append(int((scores[others] > scores[i]).sum()))
    torch.stack(losses).mean().backward()
    tau = torch.tensor(0.3, dtype=torch.float64, device=sample["query"].device, requires_grad=True)
    given = {name: value.detach().clone().requires_grad_() for name, value in sample.items()}
    query_ids, key_ids = (each.to(tau.device) for each in ids)
    ours = pairwise_infonce(**given, temperature=tau, query_ids=query_ids, key_ids=key_ids)
    ours.loss.backward()
    # a GPU rounds probabilities to the keys' type before it adds them up
    near = {"rtol": 1e-5, "atol": 1e-6} if dtype != torch.bfloat16 else {"rtol": 1e-2, "atol": 4e-3}
    assert ours.rank.tolist() == ranks
    torch.testing.assert_close(ours.loss.double().cpu(), torch.stack(losses).mean(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(tau.grad.double().cpu(), temperature.grad, rtol=near["rtol"], atol=1e-5)
    for name, value in given.items():
        assert value.grad.dtype == dtype
        torch.testing.assert_close(value.grad.double().cpu(), wide[name].grad, **near)


@WIDTHS
def test_ids_that_exclude_nothing_change_nothing(to_backend, dim):
    sample = to_backend(pairwise_sample(6, 9, dim))
    ids = torch.arange(9, device=sample["query"].device)
    with_ids = sample | {"query_ids": ids[:6], "key_ids": ids}
    ours, wanted = (loss_and_gradients(pairwise_infonce, each, ("query", "key")) for each in (with_ids, sample))
    assert all(torch.equal(ours[name], value) for name, value in wanted.items())
    assert torch.equal(pairwise_infonce(**with_ids).rank, pairwise_infonce(**sample).rank)


@WIDTHS
def test_a_batch_of_one_video_has_no_negatives(to_backend, dim):
    """The loss is 0 and no gradient flows, exactly; how near the keys left out lie does not matter."""
    sample = pairwise_sample(6, 9, dim)
    sample["key"][6:] *= 100
    ids = {"query_ids": torch.full((6,), 4), "key_ids": torch.full((9,), 4)}
    result = loss_and_gradients(pairwise_infonce, to_backend(sample | ids), ("query", "key"))
    assert result["loss"].item() == 0
    assert (result["query"] == 0).all()
    assert (result["key"] == 0).all()
    assert pairwise_infonce(**to_backend(sample | ids)).rank.tolist() == [0] * 6


# ---- panels ----------------------------------------------------------------------------------------------------------


def in_panels(rows):
    """The loss with so many queries in a panel of scores, and up to six of those in a panel of weights."""

    def loss(query, key, query_ids=None, key_ids=None):
        ids = query_ids, key_ids
        wanted = [torch.is_grad_enabled() and value.requires_grad for value in (query, key)]
        return InfoNCE(*ops().pairwise_infonce(query, key, None, *ids, 0.1, *wanted, False, rows)[:2])

    return loss


# Panels of 16 queries: a part of one, one, six and twelve of them, each with a query less and more.
SEAMS = [15, 16, 17, 95, 96, 97, 191, 192, 193]


@pytest.mark.parametrize("ids", [False, True], ids=["", "ids"])
@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
@pytest.mark.parametrize("rows", SEAMS)
def test_seams_of_panels(backend, rows, dtype, ids):
    sample = {
        name: value.to(backend.device)
        for name, value in pairwise_sample(rows, rows + 3, IN_PANELS, ids=ids, dtype=dtype).items()
    }
    ours = loss_and_gradients(in_panels(16), sample, ("query", "key"))
    check_budget(
        ours,
        loss_and_gradients(pairwise_infonce_reference, sample, ("query", "key")),
        loss_and_gradients(pairwise_infonce_reference, widened(sample), ("query", "key")),
        dtype,
    )
    # Each row has all of its columns in one panel: where the seams are changes no row, and only the sums over rows.
    whole, pieces = in_panels(0)(**sample), in_panels(16)(**sample)
    assert torch.equal(pieces.rank, whole.rank)
    with torch.no_grad():
        assert in_panels(16)(**sample).loss == pieces.loss
    alone = loss_and_gradients(in_panels(16), sample, ("key",))
    assert torch.equal(alone["key"], ours["key"])


# One more column than a block keeps of a row, with and without loads of four at once, and more than twice as many.
@pytest.mark.parametrize("ids", [False, True], ids=["", "ids"])
@pytest.mark.parametrize("columns", [16384, 16388, 16385, 33001])
def test_rows_that_are_read_twice(backend, columns, ids):
    sample = pairwise_sample(3, columns, IN_PANELS)
    if ids:  # a third of the keys each, in every part of the row
        sample |= {"query_ids": torch.arange(3), "key_ids": torch.arange(columns) % 3}
    # Later keys lie nearer, and the own key of the last row stands where the row is read again.
    sample["key"] = sample["key"] * torch.linspace(0.1, 4, columns)[:, None]
    sample = {name: value.to(backend.device) for name, value in sample.items()}
    check_budget(
        loss_and_gradients(pairwise_infonce, sample, ("query", "key")),
        loss_and_gradients(pairwise_infonce_reference, sample, ("query", "key")),
        loss_and_gradients(pairwise_infonce_reference, widened(sample), ("query", "key")),
        torch.float32,
    )
    assert torch.equal(pairwise_infonce(**sample).rank, pairwise_infonce_reference(**sample).rank)


def test_autocast_leaves_the_products_alone(backend):
    sample = {name: value.to(backend.device) for name, value in pairwise_sample(9, 20, IN_PANELS).items()}
    wanted = loss_and_gradients(pairwise_infonce, sample, ("query", "key"))
    with torch.autocast(backend.device.type, torch.bfloat16):
        ours = loss_and_gradients(pairwise_infonce, sample, ("query", "key"))
    assert all(torch.equal(ours[name], value) for name, value in wanted.items())


def test_a_part_of_a_larger_tensor(to_backend):
    """Rows that do not start where their memory does."""
    sample = to_backend(pairwise_sample(9, 20, IN_PANELS))
    part = {name: torch.cat([torch.full_like(value, 7), value])[len(value) :] for name, value in sample.items()}
    wanted, ours = (loss_and_gradients(pairwise_infonce, arguments, ("query", "key")) for arguments in (sample, part))
    assert all(torch.equal(ours[name], value) for name, value in wanted.items())
    assert torch.equal(pairwise_infonce(**part).rank, pairwise_infonce(**sample).rank)


# ---- CUDA ------------------------------------------------------------------------------------------------------------
