"""Appearance.sample: probabilities, ranges, reproducibility, errors."""

import pytest
import torch

from motionops.views import Appearance


def test_draws_have_their_probabilities_and_ranges():
    drawn = Appearance.sample(20_000, jitter=(0.4, 0.3, 1.5, 0.1), generator=torch.Generator().manual_seed(0))
    jittered = drawn.jitter[:, 0] != 1
    assert jittered.float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert drawn.grayscale.float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert (drawn.blur_sigma > 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    bounds = [(0.6, 1.4), (0.7, 1.3), (0.0, 2.5), (-0.1, 0.1)]
    for column, (low, high) in enumerate(bounds):
        values = drawn.jitter[jittered, column]
        assert values.min() >= low - 1e-6
        assert values.max() <= high + 1e-6
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.05 * (high - low))
    assert torch.equal(drawn.jitter[~jittered], torch.tensor([1.0, 1, 1, 0]).expand(int((~jittered).sum()), 4))
    blurred = drawn.blur_sigma[drawn.blur_sigma > 0]
    assert blurred.min() >= 0.1
    assert blurred.max() <= 2.0
    assert torch.equal(drawn.order.sort(dim=1).values, torch.arange(4).expand(20_000, 4))
    codes = (drawn.order * torch.tensor([64, 16, 4, 1])).sum(dim=1)
    assert torch.bincount(codes)[torch.unique(codes)].min() > 20_000 / 24 * 0.8
    assert len(torch.unique(codes)) == 24


def test_same_generator_same_draw_and_a_prefix_stays():
    def draw(batch):
        return Appearance.sample(batch, jitter_probability=0.5, generator=torch.Generator().manual_seed(3))

    assert all(torch.equal(a, b) for a, b in zip(draw(8), draw(8), strict=True))
    assert all(torch.equal(a, b[:5]) for a, b in zip(draw(5), draw(8), strict=True))


def test_neutral_and_empty():
    neutral = Appearance.neutral(3)
    assert [tuple(field.shape) for field in neutral] == [(3, 4), (3, 4), (3,), (3,)]
    assert [tuple(field.shape) for field in Appearance.sample(0)] == [(0, 4), (0, 4), (0,), (0,)]
    off = Appearance.sample(50, jitter_probability=0, grayscale_probability=0, blur_probability=0)
    assert torch.equal(off.jitter, Appearance.neutral(50).jitter)
    assert not off.grayscale.any()
    assert not off.blur_sigma.any()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"jitter": (0.4, 0.4, 0.4)}, "jitter must be 4 strengths"),
        ({"jitter": (0.4, 0.4, 0.4, 0.6)}, "the hue's <= 0.5"),
        ({"jitter": (-0.1, 0.4, 0.4, 0.1)}, "jitter must be 4 strengths >= 0"),
        ({"jitter_probability": 1.1}, r"jitter_probability must be in \[0, 1\], got 1.1"),
        ({"grayscale_probability": -1}, "grayscale_probability must be"),
        ({"blur_probability": float("nan")}, "blur_probability must be"),
        ({"blur_sigma": (0.0, 2.0)}, r"blur_sigma must be \(low, high\)"),
        ({"blur_sigma": (2.0, 1.0)}, r"blur_sigma must be \(low, high\)"),
        ({"batch": -1}, "batch must be >= 0"),
    ],
)
def test_wrong_arguments(changed, text):
    with pytest.raises(ValueError, match=f"^Appearance.sample: .*{text}"):
        Appearance.sample(**{"batch": 2, **changed})
