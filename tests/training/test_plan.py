"""The plan of batches: whole epochs, any start, any number of ranks."""

import pytest

from motionops.training.data.plan import BatchPlan, mix, permutation


def test_every_epoch_is_a_permutation_without_its_remainder():
    plan = list(BatchPlan(videos=10, batch_size=3, steps=6, seed=1))
    assert len(plan) == 6
    assert all(len(batch) == 3 for batch in plan)
    for epoch in (0, 1):
        seen = [item for batch in plan[3 * epoch : 3 * epoch + 3] for item in batch]
        assert {number for number, _ in seen} == {epoch}
        assert len({video for _, video in seen}) == 9
    assert [video for _, video in plan[0]] != [video for _, video in plan[3]]


def test_a_later_start_is_the_rest_of_the_plan():
    whole = list(BatchPlan(10, 3, 20, seed=1))
    for first in (0, 1, 3, 7, 20):
        plan = BatchPlan(10, 3, 20, seed=1, first_step=first)
        assert list(plan) == whole[first:]
        assert len(plan) == 20 - first


def test_ranks_share_every_batch_in_order():
    whole = list(BatchPlan(11, 4, 5, seed=2))
    ranks = [list(BatchPlan(11, 4, 5, seed=2, rank=rank, world=2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == whole


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_ranks_together_see_each_video_once_an_epoch(ranks, parts):
    batch_size = 2 * ranks * parts
    videos = 5 * batch_size
    plans = [
        list(BatchPlan(videos, batch_size, steps=15, seed=3, rank=rank, world=ranks, parts=parts))
        for rank in range(ranks)
    ]
    for epoch in range(3):
        seen = [video for plan in plans for batch in plan for number, video in batch if number == epoch]
        assert sorted(seen) == list(range(videos))
    assert all(len(batch) == 2 for plan in plans for batch in plan)


def test_parts_of_a_step_are_its_share_in_order():
    whole = list(BatchPlan(20, 8, 5, seed=2, rank=1, world=2, first_step=1))
    plan = BatchPlan(20, 8, 5, seed=2, rank=1, world=2, first_step=1, parts=2)
    parts = list(plan)
    assert len(parts) == len(plan) == 8
    assert [first + second for first, second in zip(parts[::2], parts[1::2], strict=True)] == whole
    with pytest.raises(ValueError, match="world=2 times parts=3"):
        BatchPlan(20, 8, 5, seed=2, world=2, parts=3)


def test_seeds_and_errors():
    assert permutation(50, 1, 0) != permutation(50, 2, 0)
    assert len({mix(a, b) for a in range(30) for b in range(30)}) == 900
    assert all(0 <= mix(a) < 2**63 for a in range(100))
    for videos, batch, world in ((3, 4, 1), (8, 3, 2), (3, 0, 1)):
        with pytest.raises(ValueError, match="BatchPlan: batch_size must be a multiple of world"):
            BatchPlan(videos, batch, 1, 0, world=world)
