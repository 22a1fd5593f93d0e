"""The estimator of L_mi: its maximum against a known information, its steps beside torch's Adam, what it keeps."""

import copy
import math

import pytest
import torch

from motionops.methods.controllable.drawn import Drawn
from motionops.methods.controllable.level_information import EPSILON, LevelInformation
from motionops.methods.controllable.level_pairs import level_pairs, other_videos

VIDEOS, CLIPS, CHANNELS, MARGINALS = 8, 4, 4, 4


def estimator(**changes):
    torch.manual_seed(0)
    shape = {"videos": VIDEOS, "clips": CLIPS, "marginals": MARGINALS, "memory": 4, "steps": 10, "rate": 1e-2}
    return LevelInformation(CHANNELS, 32, "mine", 0.99, **{**shape, **changes})


def step(generator, levels=2):
    """Features `[B, K, C]` that are a point for each level, with a little noise, and the levels `[B, K]`."""
    drawn = torch.randint(levels, (VIDEOS, CLIPS), generator=generator)
    points = torch.randn(levels, CHANNELS, generator=torch.Generator().manual_seed(5))
    return points[drawn] + 0.01 * torch.randn(VIDEOS, CLIPS, CHANNELS, generator=generator), drawn


def pairs(levels, generator):
    of_clip = torch.arange(VIDEOS).repeat_interleave(CLIPS)
    first, second, others = level_pairs(levels.flatten(), of_clip, MARGINALS, generator)
    strangers = other_videos(of_clip, torch.arange(VIDEOS), MARGINALS, generator)
    return Drawn(levels=levels.flatten(), first=first, second=second, others=others, strangers=strangers)


def held_out(information, seed, levels):
    generator = torch.Generator().manual_seed(seed)
    bounds = []
    for _ in range(40):
        features, drawn = step(generator, levels)
        bounds.append(information(features, torch.zeros(VIDEOS, CHANNELS), pairs(drawn, generator))[0].item())
    return sum(bounds) / len(bounds)


@pytest.mark.parametrize("levels", [2, 4])
def test_it_reaches_the_maximum(levels):
    """Features that name one of L equally likely levels share log L nats with others of the same level."""
    information, generator = estimator(), torch.Generator().manual_seed(1)
    for _ in range(40):
        features, drawn = step(generator, levels)
        information.enqueue(features.flatten(0, 1), drawn.flatten())
    assert held_out(information, 2, levels) == pytest.approx(math.log(levels), rel=0.15)


def test_features_that_say_nothing_have_no_information():
    information, generator = estimator(), torch.Generator().manual_seed(1)
    for _ in range(40):
        features = torch.randn(VIDEOS, CLIPS, CHANNELS, generator=generator)
        levels = torch.randint(2, (VIDEOS, CLIPS), generator=generator)
        information.enqueue(features.flatten(0, 1), levels.flatten())
    bounds = []
    for _ in range(40):
        features = torch.randn(VIDEOS, CLIPS, CHANNELS, generator=generator)
        levels = torch.randint(2, (VIDEOS, CLIPS), generator=generator)
        bounds.append(information(features, torch.zeros(VIDEOS, CHANNELS), pairs(levels, generator))[0].item())
    assert sum(bounds) / len(bounds) < 0.05


def test_its_steps_are_adams_on_all_that_is_kept():
    information, generator = estimator(steps=2, rate=0.02, memory=3).double(), torch.Generator().manual_seed(1)
    twin = copy.deepcopy(information.theta).requires_grad_()
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.02, eps=EPSILON)
    kept = []
    video = torch.arange(VIDEOS).repeat_interleave(CLIPS)
    for _ in range(4):
        features, levels = step(generator)
        information.enqueue(features.flatten(0, 1), levels.flatten())
        kept = [(features.flatten(0, 1).double(), levels.flatten()), *kept][:3]
        for distances in information.distances:
            joint_x, joint_y, marginal = [], [], []
            for f, of in kept:
                for i in range(len(f)):
                    others = torch.stack([f[(i + distance) % len(f)] for distance in distances])
                    assert all(video[(i + distance) % len(f)] != video[i] for distance in distances)
                    for j in range(len(f)):
                        if of[i] == of[j] and video[i] != video[j]:
                            joint_x.append(f[i])
                            joint_y.append(f[j])
                            marginal.append(others)
            optimizer.zero_grad()
            (-twin(torch.stack(joint_x), torch.stack(joint_y), torch.stack(marginal))).backward()
            optimizer.step()
    for ours, torchs in zip(information.theta.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, torchs.detach(), rtol=1e-5, atol=1e-7)


def test_a_copy_from_its_state_goes_on_alike():
    one, generator = estimator(), torch.Generator().manual_seed(1)
    for _ in range(2):
        features, levels = step(generator)
        one.enqueue(features.flatten(0, 1), levels.flatten())
    torch.manual_seed(9)
    other = LevelInformation(
        *(CHANNELS, 32, "mine", 0.99),
        **{"videos": VIDEOS, "clips": CLIPS, "marginals": MARGINALS, "memory": 4, "steps": 10, "rate": 1e-2},
    )
    other.load_state_dict(one.state_dict())
    features, levels = step(generator)
    for each in (one, other):
        each.enqueue(features.flatten(0, 1), levels.flatten())
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_without_a_pair_it_stays():
    information = estimator()
    before = copy.deepcopy(list(information.theta.parameters()))
    information.enqueue(torch.randn(VIDEOS * CLIPS, CHANNELS), torch.arange(VIDEOS * CLIPS))
    assert all(torch.equal(a, b) for a, b in zip(before, information.theta.parameters(), strict=True))
