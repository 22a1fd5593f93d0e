"""sample_extents: distributions, bounds, reproducibility, errors."""

import pytest
import torch

from motionops.views import sample_extents


def draw(batch=4000, seed=0, **changed):
    arguments = {"frames": 8, "frame_count": 30, "stride": 2, **changed}
    return sample_extents(batch, generator=torch.Generator().manual_seed(seed), **arguments)


def test_areas_aspects_mirrors_and_places():
    extents = draw(height=120, width=160, area=(0.2, 1.0), aspect=(3 / 4, 4 / 3))
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
    small = draw(area=(0.1, 0.4), mirror=0.0)
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
    extents = draw(10, height=100, width=400, area=(1.0, 1.0), mirror=0.0)
    assert torch.equal(extents[:, 1], torch.tensor([0.0, 1.0]).expand(10, 2))
    side = 4 / 3 * 100 / 400
    expected = torch.tensor([0.5 - side / 2, 0.5 + side / 2])
    torch.testing.assert_close(extents[:, 2], expected.expand(10, 2))
    whole = draw(10, area=(1.0, 1.0), aspect=(1.0, 1.0), mirror=0.0)
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
        ({"area": (0.0, 1.0)}, "area must be"),
        ({"area": (0.5, 1.5)}, "area must be"),
        ({"aspect": (2.0, 1.0)}, "aspect must be"),
        ({"mirror": 2.0}, "mirror must be"),
        ({"starts": torch.zeros(3, dtype=torch.int64), "batch": 2}, r"starts must be \[B=2\], got \[3\]"),
        ({"starts": torch.tensor([16, 0]), "batch": 2}, r"starts must be in \[0, frame_count - 15\]"),
    ],
)
def test_wrong_arguments(changed, text):
    with pytest.raises(ValueError, match=f"^sample_extents: .*{text}"):
        draw(**changed)
