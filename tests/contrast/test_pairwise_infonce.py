"""pairwise_infonce on every backend."""

import math

import pytest
import torch
import torch.nn.functional as F

from motionops.contrast import InfoNCE, pairwise_infonce, pairwise_infonce_reference
from motionops.library import ops
from tests.contrast.budget import check_budget, loss_and_gradients, widened
from tests.contrast.samples import pairwise_sample

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
# N, M, D: nothing, one, odd tails, hard negatives, more rows and columns than a tile.
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
]


@pytest.fixture
def to_backend(backend):
    """Moves a sample to the backend, or skips what it does not take."""

    def move(sample):
        if backend.name != "cpu" and any(value.dtype == torch.float64 for value in sample.values()):
            pytest.skip("float64 products are for the CPU")
        return {name: value.to(backend.device) for name, value in sample.items()}

    return move


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
    # A negative within rounding of the positive may fall on either side.
    scores = widened(sample)["query"] @ widened(sample)["key"].T
    close = ((scores - scores.diagonal()[:, None]).abs() < 1e-6).sum(1)
    assert ((result.rank.cpu() - pairwise_infonce_reference(**sample).rank.cpu()).abs() <= close).all()


def test_strided_inputs(to_backend):
    sample = to_backend(pairwise_sample(6, 9, 10))
    strided = {name: value.T.contiguous().T for name, value in sample.items()}
    wanted, ours = pairwise_infonce(**sample), pairwise_infonce(**strided)
    assert ours.loss == wanted.loss
    assert torch.equal(ours.rank, wanted.rank)


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


@pytest.mark.parametrize("count", [1, 10, 200])
def test_identical_embeddings_give_log_of_the_count(to_backend, count):
    same = F.normalize(torch.ones(1, 16), dim=1)
    result = pairwise_infonce(**to_backend({"query": same.repeat(1, 1), "key": same.repeat(count, 1)}))
    assert result.loss.item() == pytest.approx(math.log(count), rel=1e-6, abs=1e-6)
    assert result.rank.tolist() == [0]


def test_gradcheck(backend):
    if backend.name != "cpu":
        pytest.skip("float64 products are for the CPU")
    sample = pairwise_sample(4, 7, 5, dtype=torch.float64)
    arguments = tuple(sample[name].requires_grad_() for name in ("query", "key"))
    assert torch.autograd.gradcheck(lambda q, k: pairwise_infonce(q, k, temperature=0.3).loss, arguments)


@pytest.mark.parametrize("wanted", ["query", "key"])
def test_gradient_of_one_alone(to_backend, wanted):
    sample = to_backend(pairwise_sample(4, 9, 5))
    both = loss_and_gradients(pairwise_infonce, sample, ("query", "key"))
    assert torch.equal(loss_and_gradients(pairwise_infonce, sample, (wanted,))[wanted], both[wanted])


def test_second_derivative_is_refused(to_backend):
    sample = to_backend(pairwise_sample(4, 9, 5))
    query = sample["query"].requires_grad_()
    (gradient,) = torch.autograd.grad(pairwise_infonce(query, sample["key"]).loss, query, create_graph=True)
    with pytest.raises(RuntimeError, match="pairwise_infonce"):
        gradient.sum().backward()


BAD = [
    ({"query": torch.ones(4)}, ValueError, r"query must be \[N, D >= 1\], got \[4\]"),
    ({"query": torch.ones(4, 0)}, ValueError, r"query must be \[N, D >= 1\], got \[4, 0\]"),
    ({"query": torch.ones(4, 5).int()}, TypeError, "query must be float32, .*, got int32"),
    ({"query": "text"}, TypeError, "query must be a tensor"),
    ({"key": torch.ones(3, 5)}, ValueError, r"key must be \[M >= N=4, D=5\], got \[3, 5\]"),
    ({"key": torch.ones(4, 6)}, ValueError, r"key must be \[M >= N=4, D=5\], got \[4, 6\]"),
    ({"key": torch.ones(4, 5).bool()}, TypeError, "key must be float32, .*, got bool"),
    ({"temperature": 0.0}, ValueError, "temperature must be finite and above 0, got 0"),
    ({"temperature": math.nan}, ValueError, "temperature must be finite and above 0, got nan"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD)
def test_bad_arguments(backend, changes, error, message):
    arguments = {
        name: value.to(backend.device) if isinstance(value, torch.Tensor) else value
        for name, value in {**pairwise_sample(4, 9, 5), **changes}.items()
    }
    with pytest.raises(error, match=f"pairwise_infonce: .*{message}"):
        pairwise_infonce(**arguments)


@pytest.mark.parametrize("query_gradient", [False, True])
def test_opcheck_forward(to_backend, query_gradient):
    sample = to_backend(pairwise_sample(4, 9, 5))
    arguments = (sample["query"].requires_grad_(query_gradient), sample["key"].requires_grad_(), 0.1, query_gradient)
    torch.library.opcheck(ops().pairwise_infonce.default, arguments)


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_opcheck_backward(backend, to_backend, wanted):
    sample = to_backend(pairwise_sample(4, 9, 5))
    saved = ops().pairwise_infonce(sample["query"], sample["key"], 0.1, True)[2:]
    grad_loss = torch.ones((), device=backend.device)
    arguments = (grad_loss, sample["query"], sample["key"], *saved, 0.1, *wanted)
    torch.library.opcheck(ops().pairwise_infonce_backward.default, arguments)


def test_compiles_whole(to_backend):
    sample = to_backend(pairwise_sample(6, 20, 8))

    def step(query, key):
        result = pairwise_infonce(query, key)
        return result.loss * 2, result.rank

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    inputs = tuple(sample[name].requires_grad_() for name in ("query", "key"))
    loss, rank = compiled(*inputs)
    wanted, wanted_rank = step(*inputs)
    torch.testing.assert_close(loss, wanted)
    assert torch.equal(rank, wanted_rank)
    torch.testing.assert_close(torch.autograd.grad(loss, inputs), torch.autograd.grad(wanted, inputs))
