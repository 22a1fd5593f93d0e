"""Which videos make up which batch: whole epochs, any start, any number of ranks; and passes that would repeat."""

import warnings

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from motionops.seeds import mix
from motionops.video import VideoBatchSampler
from motionops.video.batches import permutation


def test_every_epoch_is_a_permutation_without_its_remainder():
    plan = list(VideoBatchSampler(videos=10, batch_size=3, steps=6, seed=1))
    assert len(plan) == 6
    assert all(len(batch) == 3 for batch in plan)
    for epoch in (0, 1):
        seen = [item for batch in plan[3 * epoch : 3 * epoch + 3] for item in batch]
        assert {number for number, _ in seen} == {epoch}
        assert len({video for _, video in seen}) == 9
    assert [video for _, video in plan[0]] != [video for _, video in plan[3]]


def test_a_later_start_is_the_rest_of_the_plan():
    whole = list(VideoBatchSampler(10, 3, steps=20, seed=1))
    for first in (0, 1, 3, 7, 20):
        plan = VideoBatchSampler(10, 3, steps=20, seed=1, first_step=first)
        assert list(plan) == whole[first:]
        assert len(plan) == 20 - first


def test_ranks_share_every_batch_in_order():
    whole = list(VideoBatchSampler(11, 4, steps=5, seed=2))
    ranks = [list(VideoBatchSampler(11, 4, steps=5, seed=2, rank=rank, world=2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*ranks, strict=True)] == whole


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_ranks_together_see_each_video_once_an_epoch(ranks, parts):
    batch_size = 2 * ranks * parts
    videos = 5 * batch_size
    plans = [
        list(VideoBatchSampler(videos, batch_size, steps=15, seed=3, rank=rank, world=ranks, parts=parts))
        for rank in range(ranks)
    ]
    for epoch in range(3):
        seen = [video for plan in plans for batch in plan for number, video in batch if number == epoch]
        assert sorted(seen) == list(range(videos))
    assert all(len(batch) == 2 for plan in plans for batch in plan)


def test_parts_of_a_step_are_its_share_in_order():
    whole = list(VideoBatchSampler(20, 8, steps=5, seed=2, rank=1, world=2, first_step=1))
    plan = VideoBatchSampler(20, 8, steps=5, seed=2, rank=1, world=2, first_step=1, parts=2)
    parts = list(plan)
    assert len(parts) == len(plan) == 8
    assert [first + second for first, second in zip(parts[::2], parts[1::2], strict=True)] == whole
    with pytest.raises(ValueError, match="world=2 times parts=3"):
        VideoBatchSampler(20, 8, steps=5, seed=2, world=2, parts=3)


def test_seeds_and_errors():
    assert permutation(50, 1, 0) != permutation(50, 2, 0)
    assert len({mix(a, b) for a in range(30) for b in range(30)}) == 900
    assert all(0 <= mix(a) < 2**63 for a in range(100))
    for videos, batch, world in ((3, 4, 1), (8, 3, 2), (3, 0, 1)):
        with pytest.raises(ValueError, match="VideoBatchSampler: batch_size must be a multiple of world"):
            VideoBatchSampler(videos, batch, world=world, rank=0)
    with pytest.raises(ValueError, match=r"rank must be in \[0, world=2\), got 2"):
        VideoBatchSampler(8, 2, rank=2, world=2)
    with pytest.raises(ValueError, match="first_step must be >= 0 and goes with steps, got first_step=3, steps=None"):
        VideoBatchSampler(8, 2, first_step=3)
    with pytest.raises(ValueError, match="set_epoch is for passes of one epoch"):
        VideoBatchSampler(8, 2, steps=3).set_epoch(1)
    with pytest.raises(ValueError, match=r"done in \[0, 4\), got 0 and 4"):
        VideoBatchSampler(8, 2).set_epoch(0, 4)


def test_a_pass_is_an_epoch_and_epochs_are_those_of_a_run():
    """As a plain loop goes: set_epoch before each pass; cut after 5 of 9 steps and continued."""
    run = list(VideoBatchSampler(10, 3, seed=4, steps=9))
    sampler = VideoBatchSampler(TensorDataset(torch.arange(10)), 3, seed=4)
    passes = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert len(sampler) == 3
        passes += list(sampler)
    assert passes == run
    continued = VideoBatchSampler(10, 3, seed=4)
    epoch, done = divmod(5, continued.steps_per_epoch)
    continued.set_epoch(epoch, done)
    assert len(continued) == 1
    rest = list(continued)
    continued.set_epoch(epoch + 1)
    assert rest + list(continued) == run[5:]


def test_a_plain_loader_takes_it():
    class Numbers(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, key):
            return torch.tensor(key)

    sampler = VideoBatchSampler(Numbers(), 4, seed=1)
    sampler.set_epoch(2)
    loader = DataLoader(Numbers(), batch_sampler=sampler)
    assert torch.cat(list(loader)).tolist() == [[2, video] for video in permutation(8, 1, 2)]


def test_a_pass_that_repeats_another_is_warned_of():
    sampler = VideoBatchSampler(8, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(sampler)
        sampler.set_epoch(1)
        list(sampler)
    with pytest.warns(UserWarning, match="a second pass from step 2 on gives the same clips again; set_epoch names"):
        list(sampler)
    run = VideoBatchSampler(8, 4, steps=5)
    list(run)
    with pytest.warns(UserWarning, match="a second pass from step 0 on .* it is the whole of its run"):
        list(run)
