"""Pairs of clips for the mutual information of what they look like."""

import torch

from motionops.methods.controllable.level_pairs import level_pairs, other_videos


def test_pairs_share_their_level_and_not_their_video():
    generator = torch.Generator().manual_seed(0)
    videos = torch.arange(12).repeat_interleave(4)
    levels = torch.randint(6, (48,), generator=generator)
    first, second, others = level_pairs(levels, videos, 3, generator)
    assert torch.equal(levels[first], levels[second])
    assert (videos[first] != videos[second]).all()
    assert others.shape == (len(first), 3)
    assert (videos[others] != videos[first][:, None]).all()
    lonely = [i for i in range(48) if not ((levels == levels[i]) & (videos != videos[i])).any()]
    assert sorted({*range(48)} - {*lonely}) == first.tolist()


def test_every_partner_and_every_stranger_is_drawn():
    generator = torch.Generator().manual_seed(0)
    levels, videos = torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 0, 1, 2, 3])
    drawn = [level_pairs(levels, videos, 1, generator) for _ in range(200)]
    assert {int(second[0]) for _, second, _ in drawn} == {2, 3}
    assert {int(others[0]) for _, _, others in drawn} == {2, 3, 4}
    assert {tuple(first.tolist()) for first, _, _ in drawn} == {(0, 1, 2, 3)}  # clip 4 has no partner


def test_no_shared_level_is_no_pair():
    first, second, others = level_pairs(torch.arange(4), torch.arange(4), 2)
    assert len(first) == len(second) == len(others) == 0
    first, *_ = level_pairs(torch.tensor([1, 1, 2, 2]), torch.tensor([0, 0, 1, 1]), 2)  # of one video each
    assert len(first) == 0


def test_places_among_other_things():
    generator = torch.Generator().manual_seed(0)
    places = other_videos(torch.tensor([0, 0, 2]), torch.arange(3), 50, generator)
    assert [sorted(set(row)) for row in places.tolist()] == [[1, 2], [1, 2], [0, 1]]
