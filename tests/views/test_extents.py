"""sample_extents: distributions, bounds, reproducibility, errors."""

import numpy as np
import pytest
import torch

from motionops.views import sample_extents


def draw(batch=4000, seed=0, **changed):
    arguments = {"frames": 8, "frame_count": 30, "stride": 2, **changed}
    return sample_extents(batch, generator=torch.Generator().manual_seed(seed), **arguments)


def test_areas_aspects_mirrors_and_places():
    extents = draw(height=120, width=160, scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3))
    assert extents.shape == (4000, 3, 2)
    assert extents.dtype == torch.float32
    sides = extents[:, :, 1] - extents[:, :, 0]
    mirrored = sides[:, 2] < 0
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (sides[:, 1] > 0).all()
    height, width = sides[:, 1], sides[:, 2].abs()
    assert extents[:, 1:].min() >= -1e-6
    assert extents[:, 1:].max() <= 1 + 1e-6
    assert (height * width).min() >= 0.2 - 1e-5
    assert (height * width).max() <= 1 + 1e-6
    ratio = width * 160 / (height * 120)
    assert ratio.min() >= 3 / 4 - 1e-4
    assert ratio.max() <= 4 / 3 + 1e-4
    # A small crop with an aspect that always fits: area uniform, aspect log-uniform, place uniform.
    small = draw(scale=(0.1, 0.4), mirror=0.0)
    side = small[:, 1:, 1] - small[:, 1:, 0]
    assert side.prod(dim=1).mean().item() == pytest.approx(0.25, abs=0.01)
    assert (side[:, 1] / side[:, 0]).log().mean().item() == pytest.approx(0.0, abs=0.02)
    place = small[:, 1:, 0] / (1 - side)
    assert place.mean(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    assert place.std(dim=0).tolist() == pytest.approx([12**-0.5] * 2, abs=0.02)


def test_starts_are_uniform_over_all_that_fit():
    starts = draw()[:, 0, 0].long()
    assert starts.min() == 0
    assert starts.max() == 30 - 15
    assert torch.bincount(starts).min() > 4000 / 16 * 0.7
    assert torch.equal(draw()[:, 0, 1] - draw()[:, 0, 0], torch.full((4000,), 16.0))
    counts = torch.tensor([15, 16, 100, 15])
    several = torch.stack([draw(4, seed, frame_count=counts)[:, 0, 0] for seed in range(200)])
    assert several.max(dim=0).values.tolist()[::3] == [0, 0]
    assert several[:, 1].max() == 1
    assert several[:, 2].max() > 60
    known = draw(3, starts=torch.tensor([2, 0, 15]))
    assert known[:, 0].tolist() == [[2, 18], [0, 16], [15, 31]]


def test_a_box_that_never_fits_becomes_the_largest_central_one():
    extents = draw(10, height=100, width=400, scale=(1.0, 1.0), mirror=0.0)
    assert torch.equal(extents[:, 1], torch.tensor([0.0, 1.0]).expand(10, 2))
    side = 4 / 3 * 100 / 400
    expected = torch.tensor([0.5 - side / 2, 0.5 + side / 2])
    torch.testing.assert_close(extents[:, 2], expected.expand(10, 2))
    whole = draw(10, scale=(1.0, 1.0), ratio=(1.0, 1.0), mirror=0.0)
    torch.testing.assert_close(whole[:, 1:], torch.tensor([0.0, 1.0]).expand(10, 2, 2))


def test_same_generator_same_draw_and_a_prefix_stays():
    assert torch.equal(draw(8), draw(8))
    assert torch.equal(draw(5), draw(8)[:5])
    assert draw(0).shape == (0, 3, 2)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"frame_count": 14}, "frame_count must be at least 15, got 14"),
        (
            {"frame_count": torch.tensor([20, 20, 20]), "batch": 2},
            r"frame_count must be one number or \[B=2\], got \[3\]",
        ),
        ({"frames": 0}, "frames must be >= 1"),
        ({"stride": 0}, "stride must be >= 1"),
        ({"batch": -1}, "batch must be >= 0"),
        ({"height": 0}, "height must be >= 1"),
        ({"scale": (0.0, 1.0)}, "scale must be"),
        ({"scale": (0.5, 1.5)}, "scale must be"),
        ({"ratio": (2.0, 1.0)}, "ratio must be"),
        ({"mirror": 2.0}, "mirror must be"),
        ({"starts": torch.zeros(3, dtype=torch.int64), "batch": 2}, r"starts must be \[B=2\], got \[3\]"),
        ({"starts": torch.tensor([16, 0]), "batch": 2}, r"starts must be in \[0, frame_count - 15\]"),
    ],
)
def test_wrong_arguments(changed, text):
    with pytest.raises(ValueError, match=f"^sample_extents: .*{text}"):
        draw(**changed)


def test_numbers_of_other_libraries():
    arguments = {"frames": 3, "frame_count": 20, "stride": 2, "height": 30, "width": 40, "mirror": 0.25}
    arguments |= {"scale": (0.25, 0.5), "ratio": (0.5, 2.0)}

    def drawn(batch, **changed):
        return sample_extents(batch, **arguments | changed, generator=torch.Generator().manual_seed(1))

    expected = drawn(9)
    whole = {name: np.int32(arguments[name]) for name in ("frames", "frame_count", "stride", "height", "width")}
    assert torch.equal(drawn(np.int64(9), **whole), expected)
    whole = {name: torch.tensor(arguments[name]) for name in whole}
    assert torch.equal(drawn(torch.tensor(9), **whole), expected)
    real = {"mirror": np.float32(0.25), "scale": np.array([0.25, 0.5]), "ratio": torch.tensor([0.5, 2.0])}
    assert torch.equal(drawn(9, **real), expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"frames": 2.5}, "frames must be a whole number, got 2.5"),
        ({"stride": None}, "stride must be a whole number, got None"),
        ({"mirror": "0.5"}, "mirror must be a number, got '0.5'"),
        ({"scale": ("a", 1)}, r"scale\[0\] must be a number, got 'a'"),
    ],
)
def test_what_is_no_number(changed, message):
    with pytest.raises(TypeError, match=f"^sample_extents: {message}$"):
        sample_extents(2, **{"frames": 2, "frame_count": 9, **changed})


def test_scale_and_ratio_are_those_of_torchvision():
    """The crops that both draw have the same means and spreads."""
    transforms = pytest.importorskip("torchvision.transforms")
    torch.manual_seed(0)
    picture, options = torch.empty(3, 600, 800), {"scale": (0.1, 0.9), "ratio": (0.5, 3.0)}
    theirs = torch.tensor([transforms.RandomResizedCrop.get_params(picture, *options.values()) for _ in range(4000)])
    theirs = theirs / torch.tensor([600, 800, 600, 800])
    ours = sample_extents(4000, frames=1, frame_count=1, height=600, width=800, mirror=0.0, **options)[:, 1:]
    ours = torch.cat([ours[..., 0], ours[..., 1] - ours[..., 0]], dim=1)  # top, left, height, width
    for function in (lambda x: x, lambda x: x[:, 2] * x[:, 3], lambda x: (x[:, 3] / x[:, 2]).log()):
        for statistic in (torch.mean, torch.std):
            torch.testing.assert_close(
                statistic(function(ours), dim=0), statistic(function(theirs), dim=0), rtol=0, atol=0.03
            )
