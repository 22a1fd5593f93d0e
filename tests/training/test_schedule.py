"""Learning rates."""

import itertools
import math

import pytest

from motionops.training.schedule import cosine_factor, milestone_factor


def test_cosine_per_epoch_as_fima_was_released():
    for epoch in (0, 1, 99, 199):
        expected = 0.5 * (1 + math.cos(math.pi * epoch / 200))
        for step in (epoch * 7, epoch * 7 + 6):
            assert cosine_factor(step, 7, 200, per_step=False) == pytest.approx(expected)


def test_warm_up_then_cosine_to_zero():
    rates = [cosine_factor(step, 10, 5, warmup_epochs=2) for step in range(50)]
    assert rates[0] == pytest.approx(1 / 20)
    assert rates[19] == pytest.approx(1)
    assert rates[20] == pytest.approx(1)
    assert rates[35] == pytest.approx(0.5)
    assert 0 < rates[49] < 0.01
    assert all(a < b for a, b in itertools.pairwise(rates[:20]))
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))
    assert [cosine_factor(step, 10, 5, 2, per_step=False) for step in (0, 9, 10, 20)] == [0.5, 0.5, 1, 1]


def test_odd_lengths():
    assert cosine_factor(0, 1, 1, warmup_epochs=2) == 0.5
    assert cosine_factor(0, 3, 4, warmup_epochs=0.5) == pytest.approx(1 / 1.5)
    assert cosine_factor(1, 3, 4, warmup_epochs=0.5) == 1
    assert cosine_factor(12, 3, 4) == pytest.approx(0)


def test_milestones_divide_by_ten():
    rates = [milestone_factor(step, 10, (2, 4)) for step in range(50)]
    assert rates[:20] == [1.0] * 20
    assert rates[20:40] == pytest.approx([0.1] * 20)
    assert rates[40:] == pytest.approx([0.01] * 10)
    rising = [milestone_factor(step, 10, (2,), warmup_epochs=1) for step in range(30)]
    assert rising[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rising[10:] == pytest.approx([1.0] * 10 + [0.1] * 10)
