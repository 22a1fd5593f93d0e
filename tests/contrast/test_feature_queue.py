"""FeatureQueue: wrapping, ids, saving, and gathering over processes."""

import copy
import re

import numpy as np
import pytest
import torch

from motionops.contrast.feature_queue import FeatureQueue
from tests.several_ranks import on_ranks


def rows(first: int, count: int, dim: int = 3) -> torch.Tensor:
    """Row n holds the value n, so that a row tells where it came from."""
    return torch.arange(first, first + count, dtype=torch.float32)[:, None].expand(count, dim)


def values(queue: FeatureQueue) -> list[int]:
    return queue.features[:, 0].int().tolist()


def test_starts_with_random_unit_rows_of_unknown_videos():
    queue = FeatureQueue(64, 8)
    assert queue.features.shape == (64, 8)
    assert queue.features.dtype == torch.float32
    torch.testing.assert_close(queue.features.norm(dim=1), torch.ones(64))
    assert len({tuple(row) for row in queue.features.tolist()}) == 64
    assert queue.ids.dtype == torch.int64
    assert queue.ids.eq(-1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_dtype(dtype):
    queue = FeatureQueue(4, 2, dtype=dtype)
    queue.enqueue(torch.full((1, 2), 0.5))
    assert queue.features.dtype == dtype
    assert queue.features[0].tolist() == [0.5, 0.5]


def test_writes_in_order_and_wraps():
    queue = FeatureQueue(5, 3)
    queue.enqueue(rows(0, 3), torch.tensor([10, 11, 12]))
    assert values(queue)[:3] == [0, 1, 2]
    queue.enqueue(rows(3, 4), torch.tensor([13, 14, 15, 16]))
    assert values(queue) == [5, 6, 2, 3, 4]
    assert queue.ids.tolist() == [15, 16, 12, 13, 14]
    queue.enqueue(rows(7, 1))
    assert values(queue) == [5, 6, 7, 3, 4]
    assert queue.ids.tolist() == [15, 16, -1, 13, 14]


@pytest.mark.parametrize("rows", [2, 4, 5, 9])
def test_what_is_to_come_is_known_before_it_enters(rows):
    """From the middle of the ring on, to its end and beyond; and nothing has changed by then."""
    queue = FeatureQueue(5, 3)
    queue.enqueue(torch.randn(3, 3))
    held, features = copy.deepcopy(queue.state_dict()), torch.randn(rows, 3)
    expected = queue.followed_by(features)
    assert all(torch.equal(value, held[name]) for name, value in queue.state_dict().items())
    queue.enqueue(features)
    assert torch.equal(expected, queue.features)


@pytest.mark.parametrize("count", [5, 6, 9, 10, 23])
def test_more_rows_than_it_holds_keeps_the_last(count):
    together, one_by_one = FeatureQueue(5, 3), FeatureQueue(5, 3)
    for queue in (together, one_by_one):
        queue.enqueue(rows(100, 2))
    together.enqueue(rows(0, count), torch.arange(count))
    for n in range(count):
        one_by_one.enqueue(rows(n, 1), torch.tensor([n]))
    assert values(together) == values(one_by_one)
    assert together.ids.tolist() == one_by_one.ids.tolist()
    assert together.position == one_by_one.position
    assert sorted(values(together)) == list(range(count - 5, count))


def test_no_rows_change_nothing():
    queue = FeatureQueue(5, 3)
    before = {name: value.clone() for name, value in queue.state_dict().items()}
    queue.enqueue(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))
    for name, value in queue.state_dict().items():
        assert torch.equal(value, before[name])


def test_state_dict_restores_rows_ids_and_position():
    queue, restored = FeatureQueue(5, 3), FeatureQueue(5, 3)
    queue.enqueue(rows(0, 7), torch.arange(7))
    restored.load_state_dict(queue.state_dict())
    for each in (queue, restored):
        each.enqueue(rows(50, 2), torch.tensor([50, 51]))
    assert torch.equal(queue.features, restored.features)
    assert torch.equal(queue.ids, restored.ids)
    assert queue.position == restored.position == 4


def test_no_gradient_is_kept():
    queue = FeatureQueue(5, 3)
    queue.enqueue(torch.ones(2, 3, requires_grad=True))
    assert not queue.features.requires_grad
    assert list(queue.parameters()) == []


def test_rows_may_be_strided():
    queue = FeatureQueue(4, 3)
    features = torch.arange(24.0).reshape(3, 8).T[::2]
    queue.enqueue(features)
    assert torch.equal(queue.features, features)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 3), ValueError, "FeatureQueue: size must be at least 1, got 0"),
        ((3, 0), ValueError, "FeatureQueue: dim must be at least 1, got 0"),
    ],
)
def test_bad_sizes(arguments, error, message):
    with pytest.raises(error, match=message):
        FeatureQueue(*arguments)


def test_bad_dtype():
    for dtype in (torch.int64, torch.float8_e4m3fn, "float32"):
        words = f"dtype must be float32, float64, bfloat16 or float16, got {dtype}"
        with pytest.raises(TypeError, match=f"^FeatureQueue: {re.escape(words)}$"):
            FeatureQueue(3, 3, dtype=dtype)


def test_arrays_of_numpy():
    queue = FeatureQueue(5, 3)
    queue.enqueue(rows(7, 2).numpy(), torch.tensor([17, 18]).numpy())
    assert values(queue)[:2] == [7, 8]
    assert queue.ids.tolist() == [17, 18, -1, -1, -1]


@pytest.mark.parametrize(
    ("features", "ids", "error", "message"),
    [
        (torch.ones(2, 4), None, ValueError, r"features must be \[N, D=3\], got \[2, 4\]"),
        (torch.ones(3), None, ValueError, r"features must be \[N, D=3\], got \[3\]"),
        (torch.ones(2, 3).int(), None, TypeError, "floating type, got torch.int32"),
        (torch.ones(2, 3, device="meta"), None, ValueError, "features must be on cpu, got meta"),
        ([[1.0, 2.0, 3.0]], None, TypeError, "features must be a tensor or an array .*, got list"),
        (torch.ones(2, 3), [1, 2], TypeError, "ids must be a tensor or an array .*, got list"),
        (torch.ones(2, 3), torch.ones(2), TypeError, "ids must be int64, got torch.float32"),
        (torch.ones(2, 3), torch.ones(3).long(), ValueError, r"ids must be \[N=2\], got \[3\]"),
    ],
)
def test_bad_rows(features, ids, error, message):
    with pytest.raises(error, match=f"FeatureQueue.enqueue: .*{message}"):
        FeatureQueue(5, 3).enqueue(features, ids)


def enqueue_on_rank(rank: int) -> tuple:
    torch.manual_seed(0)
    queue = FeatureQueue(6, 3)
    # Rank 0 has 1 row and rank 1 has 3; then 4 and none, over the end.
    queue.enqueue(rows(10 * rank, 1 + 2 * rank), torch.arange(1 + 2 * rank) + 10 * rank)
    queue.enqueue(rows(20, 4 * (1 - rank)), torch.arange(4 * (1 - rank)) + 20)
    return values(queue), queue.ids.tolist(), int(queue.position)


def test_two_processes_gather_in_rank_order(tmp_path):
    expected = ([22, 23, 11, 12, 20, 21], [22, 23, 11, 12, 20, 21], 2)
    assert on_ranks(enqueue_on_rank, tmp_path) == [expected] * 2


def test_it_is_made_anew_after_deferred_initialisation():
    with torch.device("meta"):
        queue = FeatureQueue(50, 6)
    assert queue.features.is_meta
    queue.to_empty(device="cpu")
    torch.manual_seed(7)
    queue.reset_parameters()
    torch.manual_seed(7)
    drawn = torch.randn(50, 6)
    torch.testing.assert_close(queue.features, drawn / drawn.square().sum(dim=1, keepdim=True).sqrt())
    assert (queue.ids == -1).all()
    assert queue.position.item() == 0
    torch.manual_seed(7)
    assert torch.equal(FeatureQueue(50, 6).features, queue.features)


def test_reset_parameters_forgets_what_has_entered():
    queue = FeatureQueue(5, 3, dtype=torch.float64)
    queue.enqueue(torch.full((2, 3), 9.0), torch.tensor([4, 5]))
    queue.reset_parameters()
    torch.testing.assert_close(queue.features.norm(dim=1), torch.ones(5, dtype=torch.float64), rtol=1e-14, atol=0)
    assert (queue.ids.tolist(), queue.position.item()) == ([-1] * 5, 0)


def test_its_rows_do_not_depend_on_the_default_dtype():
    torch.manual_seed(3)
    expected = FeatureQueue(4, 3).features
    try:
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(3)
        assert torch.equal(FeatureQueue(4, 3).features, expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_sizes_of_any_kind_of_whole_number():
    assert FeatureQueue(np.int64(4), torch.tensor(3)).features.shape == (4, 3)
    with pytest.raises(TypeError, match=r"FeatureQueue: size must be a whole number, got 4\.0"):
        FeatureQueue(4.0, 3)
