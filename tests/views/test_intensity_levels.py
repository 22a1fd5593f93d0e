"""Levels of colour jitter and blur."""

import itertools

import pytest
import torch

from motionops.views import IntensityLevels


def test_the_numbers_of_levels_of_table_5():
    """The paper names 32 and 512 of them."""
    assert IntensityLevels(2, 2, 2).count == 32
    assert IntensityLevels().count == IntensityLevels(4, 2, 4).count == 512
    assert IntensityLevels(4, 4, 4).count == 1024
    assert IntensityLevels(5, 2, 5).count == 1250


def test_digits_count_all_combinations_once():
    levels = IntensityLevels(2, 3, 4)
    digits = levels.digits(torch.arange(levels.count)).tolist()
    assert digits == [list(row) for row in itertools.product(*map(range, (2, 2, 2, 3, 4)))]


def test_parameters_stay_in_their_level_and_fill_it():
    levels = IntensityLevels()
    number = ((((1 * 4) + 3) * 4 + 0) * 2 + 1) * 4 + 2  # brightness 1, contrast 3, saturation 0, hue 1, blur 2
    look = levels.appearance(torch.full((500,), number), torch.Generator().manual_seed(0))
    width = 1.9 / 4
    known = [
        (look.jitter[:, 0], 0.8, 1.0),
        (look.jitter[:, 1], 1.2, 1.4),
        (look.jitter[:, 2], 0.6, 0.8),
        (look.jitter[:, 3], 0.0, 0.1),
        (look.blur_sigma, 0.1 + 2 * width, 0.1 + 3 * width),
    ]
    for values, low, high in known:
        assert low - 1e-6 <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high + 1e-6
    assert not look.grayscale.any()
    assert len({tuple(order) for order in look.order.tolist()}) == 24
    assert torch.equal(look.order.sort(dim=1).values, torch.arange(4).expand(500, 4))


def test_a_clip_draws_alike_whatever_follows():
    levels = IntensityLevels()
    few, many = (levels.appearance(torch.arange(n), torch.Generator().manual_seed(1)) for n in (3, 9))
    for first, second in zip(few.fields(), many.fields(), strict=True):
        assert torch.equal(first, second[:3])


def test_one_level_is_plain_jitter():
    levels = IntensityLevels(1, 1, 1)
    assert levels.count == 1
    look = levels.appearance(torch.zeros(2000, dtype=torch.int64), torch.Generator().manual_seed(0))
    for i, strength in enumerate((0.4, 0.4, 0.4, 0.1)):
        centre = 0.0 if i == 3 else 1.0
        assert look.jitter[:, i].min() < centre - 0.98 * strength
        assert look.jitter[:, i].max() > centre + 0.98 * strength
    assert levels.appearance(torch.zeros(0, dtype=torch.int64)).jitter.shape == (0, 4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"colour": 0}, "colour must be at least 1, got 0"),
        ({"blur": -1}, "blur must be at least 1, got -1"),
        ({"jitter": (0.4, 0.4, 0.4, 0.6)}, "jitter must be 4 strengths"),
        ({"jitter": (1.4, 0.4, 0.4, 0.1)}, "jitter must be 4 strengths"),
        ({"blur_sigma": (0.0, 2.0)}, r"blur_sigma must be \(low, high\)"),
    ],
)
def test_what_has_no_levels_is_refused(flags, message):
    with pytest.raises(ValueError, match=f"IntensityLevels: {message}"):
        IntensityLevels(**flags)


@pytest.mark.parametrize("levels", [[512], [-1], [[0]]])
def test_a_level_out_of_range_is_refused(levels):
    with pytest.raises(ValueError, match=r"IntensityLevels.appearance: levels must be \[N\] of 0 to 511"):
        IntensityLevels().appearance(torch.tensor(levels))
