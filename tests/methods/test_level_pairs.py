"""Pairs of clips for the mutual information of what they look like."""

import torch

from motionops.methods.controllable.level_pairs import level_pairs, other_videos, same_level


def test_pairs_are_all_clips_of_a_level_and_of_other_videos():
    generator = torch.Generator().manual_seed(0)
    videos = torch.arange(12).repeat_interleave(4)
    levels = torch.randint(6, (48,), generator=generator)
    first, second, others = level_pairs(levels, videos, 3, generator)
    expected = {(i, j) for i in range(48) for j in range(48) if levels[i] == levels[j] and videos[i] != videos[j]}
    assert len(first) == len(expected)
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == expected
    assert others.shape == (48, 3)
    assert (videos[others] != videos[:, None]).all()


def test_every_stranger_is_drawn():
    generator = torch.Generator().manual_seed(0)
    levels, videos = torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 0, 1, 2, 3])
    drawn = [level_pairs(levels, videos, 1, generator) for _ in range(200)]
    assert {int(others[0]) for _, _, others in drawn} == {2, 3, 4}


def test_pairs_of_several_steps_stay_within_a_step():
    """And where a step is not there yet, no clip has a partner."""
    strange = torch.tensor([[False, True], [True, False]])
    first, second = same_level(torch.tensor([[5, 5], [5, 7], [5, 5], [-1, -1]]), strange)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (1, 0), (4, 5), (5, 4)]


def test_no_shared_level_is_no_pair():
    first, second, others = level_pairs(torch.arange(4), torch.arange(4), 2)
    assert len(first) == len(second) == 0
    assert others.shape == (4, 2)
    first, *_ = level_pairs(torch.tensor([1, 1, 2, 2]), torch.tensor([0, 0, 1, 1]), 2)  # of one video each
    assert len(first) == 0


def test_places_among_other_things():
    generator = torch.Generator().manual_seed(0)
    places = other_videos(torch.tensor([0, 0, 2]), torch.arange(3), 50, generator)
    assert [sorted(set(row)) for row in places.tolist()] == [[1, 2], [1, 2], [0, 1]]
