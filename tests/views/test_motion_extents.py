"""motion_extents and motion_starts: coverage counted by NumPy, reproducibility, maps that tell nothing, errors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import motionops
from motionops.views import motion_extents, motion_starts, sample_extents


def draw(grid, seed=0, **changed):
    arguments = {"frames": 4, "starts": torch.zeros(len(grid), dtype=torch.int64), **changed}
    arguments.setdefault("generator", torch.Generator().manual_seed(seed))
    return motion_extents(grid, **arguments)


def blob(row, column, height, width, grid=28):
    motion = torch.zeros(grid, grid)
    motion[row : row + height, column : column + width] = 1 + torch.rand(height, width)
    return motion


def covered(extent, motion, quantile=0.9, finer=32):
    """Share of the moving cells inside, counted on a raster of 32 x 32 points a cell."""
    motion = np.asarray(motion, dtype=np.float64)
    moving = np.kron(motion > np.quantile(motion, quantile), np.ones((finer, finer), dtype=bool))
    (y0, y1), (x0, x1) = np.sort(np.asarray(extent[1:]), axis=1)
    y, x = ((np.arange(side) + 0.5) / side for side in moving.shape)
    inside = ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))
    return (moving & inside).sum() / moving.sum()


def assert_valid(extents, starts, span):
    assert extents.dtype == torch.float32
    assert extents[:, 0].tolist() == [[start, start + span] for start in starts]
    inside = extents[:, 1:]
    assert inside.min() >= -1e-6
    assert inside.max() <= 1 + 1e-6
    assert (extents[:, 1, 1] > extents[:, 1, 0]).all()
    assert (extents[:, 2, 0] != extents[:, 2, 1]).all()


def test_it_is_public():
    assert motionops.motion_extents is motion_extents


@pytest.mark.parametrize("place", [(0, 0, 6, 6), (20, 3, 5, 7), (12, 12, 3, 3), (24, 24, 4, 4)])
def test_paper_covers_what_moves(place):
    grid = blob(*place).expand(60, -1, -1)
    extents = draw(grid, starts=[3] * 60, stride=2)
    assert_valid(extents, [3] * 60, 8)
    assert min(covered(extent, grid[0]) for extent in extents) >= 0.8 - 0.01
    assert extents[:, 1].std(dim=0).max() > 0.05  # boxes are random
    assert 10 < (extents[:, 2, 0] > extents[:, 2, 1]).sum() < 50
    sides = (extents[:, 1:, 1] - extents[:, 1:, 0]).abs()
    assert sides.prod(dim=1).min() >= 0.2 - 1e-5
    assert (sides[:, 1] / sides[:, 0]).min() >= 3 / 4 - 1e-4
    assert (sides[:, 1] / sides[:, 0]).max() <= 4 / 3 + 1e-4


def test_paper_is_the_uniform_draw_under_the_condition():
    grid = blob(2, 2, 4, 4).expand(300, -1, -1)
    mean = draw(grid, mirror=0.0)[:, 1:].mean(dim=0)
    uniform = sample_extents(20_000, frames=1, frame_count=1, mirror=0.0, generator=torch.Generator().manual_seed(1))
    accepted = [extent for extent in uniform[:4000] if covered(extent, grid[0], finer=4) >= 0.8]
    torch.testing.assert_close(mean, torch.stack(accepted)[:, 1:].mean(dim=0), atol=0.04, rtol=0)


def test_paper_stretches_a_box_where_none_covers_enough():
    motion = torch.zeros(20, 20)
    motion[0, :2] = motion[-1, -2:] = 1.0  # opposite corners
    extents = draw(motion.expand(40, -1, -1), quantile=0.99, scale=(0.1, 0.3), starts=[0] * 40)
    assert_valid(extents, [0] * 40, 4)
    assert min(covered(extent, motion, 0.99) for extent in extents) >= 0.8 - 0.02


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_a_box_that_was_moved_or_stretched_is_mirrored_as_it_was_drawn(form, mirror):
    """Small boxes, one try: none covers what moves in two corners, so the paper's are stretched."""
    motion = blob(0, 0, 4, 4) + blob(24, 24, 4, 4)
    drawn = {"scale": (0.05, 0.1), "tries": 1 if form == "paper" else 40, "coverage": 1.0, "probability": 1.0}
    extents = draw(motion.expand(30, -1, -1), form=form, mirror=mirror, **drawn)
    backwards = extents[:, 2, 0] > extents[:, 2, 1]
    assert (backwards == bool(mirror)).all()
    assert (extents[:, 1, 0] < extents[:, 1, 1]).all()


def test_released_covers_by_the_size_of_the_rectangle():
    share = {(1, 1): 0.9, (2, 2): 0.9, (2, 4): 0.8, (3, 4): 0.7}
    for (height, width), least in share.items():
        motion = torch.zeros(7, 7)
        motion[2, 1] = 4
        motion[2 + height - 1, 1] = motion[2, 1 + width - 1] = motion[2 + height - 1, 1 + width - 1] = 3
        extents = draw(motion.expand(100, -1, -1), form="released", probability=1.0, scale=(0.5, 0.5), tries=400)
        (y0, y1), (x0, x1) = np.sort(extents[:, 1:].numpy(), axis=-1).transpose(1, 2, 0)
        rows = np.minimum(y1, (2 + height) / 7) - np.maximum(y0, 2 / 7)
        columns = np.minimum(x1, (1 + width) / 7) - np.maximum(x0, 1 / 7)
        shares = rows.clip(0) * columns.clip(0) * 49 / (height * width)
        assert shares.min() >= least - 1e-5
        assert shares.min() < least + 0.1
    # the rectangle is the whole picture: nothing is asked for, the first place stays
    motion = torch.zeros(7, 7)
    motion[0, 0] = motion[6, 6] = 1
    uniform = draw(motion.expand(50, -1, -1), form="released", probability=0.0)
    assert torch.equal(draw(motion.expand(50, -1, -1), form="released", probability=1.0), uniform)


def test_released_looks_at_motion_with_its_probability():
    grid = blob(4, 12, 4, 4).expand(400, -1, -1)
    share = {}
    for probability in (None, 0.0, 1.0):
        extents = draw(grid, form="released", probability=probability, scale=(0.3, 0.3), mirror=0.0)
        share[probability] = np.mean([covered(extent, grid[0], finer=4) > 0.85 for extent in extents])
    expected = 0.7 * share[1.0] + 0.3 * share[0.0]
    assert share[1.0] > share[0.0] + 0.4
    assert share[None] == pytest.approx(expected, abs=0.08)


def test_finer_maps_are_averaged_to_seven_cells():
    coarse = torch.rand(5, 7, 7, generator=torch.Generator().manual_seed(3))
    fine = coarse.repeat_interleave(4, dim=1).repeat_interleave(8, dim=2)
    assert torch.equal(draw(coarse, form="released"), draw(fine, form="released"))


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("value", [0.0, 2.5])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 7), (20, 30)])
def test_a_flat_map_gives_the_uniform_draw(form, value, shape):
    grid = torch.full((3, *shape), value)
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    extents = draw(grid, form=form, generator=generators, height=30, width=40)
    for seed, extent in enumerate(extents):
        generator = torch.Generator().manual_seed(seed)
        torch.rand((), generator=generator, dtype=torch.float64)  # whether it looks at motion
        uniform = sample_extents(
            1, frames=4, frame_count=4, starts=torch.zeros(1).long(), height=30, width=40, generator=generator
        )
        assert torch.equal(extent, uniform[0])


@pytest.mark.parametrize("form", ["paper", "released"])
def test_a_generator_each_makes_it_independent_of_the_batch(form):
    grid = torch.rand(6, 9, 11, generator=torch.Generator().manual_seed(0))

    def generators(seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    together = draw(grid, form=form, generator=generators(range(6)))
    assert torch.equal(draw(grid[[4, 1]], form=form, generator=generators([4, 1])), together[[4, 1]])
    assert torch.equal(draw(grid, form=form, seed=5), draw(grid, form=form, seed=5))
    assert torch.equal(draw(grid, form=form, seed=5)[:2], draw(grid[:2], form=form, seed=5))


def test_frames_are_averaged_and_arrays_taken():
    grid = torch.rand(2, 3, 8, 8)
    assert torch.equal(draw(grid), draw(grid.double().mean(dim=1)))
    assert torch.equal(draw(grid.numpy()), draw(grid))
    assert torch.equal(draw(grid.bfloat16()), draw(grid.bfloat16().float()))
    assert draw(torch.zeros(0, 7, 7)).shape == (0, 3, 2)
    assert draw(torch.zeros(0, 7, 7), starts=[], generator=[]).shape == (0, 3, 2)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from(["paper", "released"]),
    st.floats(0, 0.99),
    st.floats(0, 1),
    st.integers(0, 2**31),
)
def test_any_map_gives_a_view(height, width, form, quantile, coverage, seed):
    generator = torch.Generator().manual_seed(seed)
    grid = torch.rand(2, height, width, generator=generator) ** 4
    extents = draw(grid, form=form, quantile=quantile, coverage=coverage, tries=10, seed=seed)
    assert_valid(extents, [0, 0], 4)
    if form == "paper" and height * width > 1:
        for extent, motion in zip(extents, grid, strict=True):
            assert covered(extent, motion, quantile) >= coverage - 0.08  # a raster point stands for an area


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"grid": torch.full((2, 3, 3), float("nan"))}, ValueError, "motion_grid must be finite"),
        ({"grid": torch.full((2, 3, 3), float("inf"))}, ValueError, "motion_grid must be finite"),
        ({"grid": torch.zeros(2, 3)}, ValueError, r"motion_grid must be \[B, h, w\].*got \[2, 3\]"),
        ({"grid": torch.zeros(2, 0, 3)}, ValueError, "h, w >= 1"),
        ({"grid": torch.zeros(2, 3, 3).long()}, TypeError, "motion_grid must be floating, got torch.int64"),
        ({"grid": [1, 2]}, TypeError, "motion_grid must be a tensor"),
        ({"starts": [0]}, ValueError, r"starts must be \[B=2\]"),
        ({"starts": [0, -1]}, ValueError, "starts must be .* >= 0"),
        ({"starts": [0.0, 1.0]}, TypeError, r"starts must be integers \[B=2\]"),
        ({"starts": "ab"}, TypeError, r"starts must be integers \[B=2\], got str"),
        ({"starts": (start for start in (0, 0))}, TypeError, r"starts must be integers \[B=2\], got generator"),
        ({"quantile": "0.9"}, TypeError, "quantile must be a number, got '0.9'"),
        ({"coverage": None}, TypeError, "coverage must be a number, got None"),
        ({"probability": "1"}, TypeError, "probability must be a number, got '1'"),
        ({"generator": 5}, TypeError, "generator must be a torch.Generator or a sequence of B, got 5"),
        ({"quantile": 1.0}, ValueError, r"quantile must be in \[0, 1\)"),
        ({"coverage": 1.1}, ValueError, "coverage must be in"),
        ({"form": "mine"}, ValueError, 'form must be "paper" or "released", got \'mine\''),
        ({"probability": -0.1}, ValueError, "probability must be in"),
        ({"tries": 0}, ValueError, "tries must be an integer >= 1, got 0"),
        ({"generator": [torch.Generator()]}, ValueError, "generator must be one or a sequence of B=2, got 1"),
    ],
)
def test_wrong_arguments(changed, error, text):
    arguments = {"grid": torch.zeros(2, 7, 7), **changed}
    with pytest.raises(error, match=f"^motion_extents: .*{text}"):
        draw(**arguments)


def test_wrong_ranges_are_refused_as_sample_extents_does():
    with pytest.raises(ValueError, match="scale must be"):
        draw(torch.zeros(2, 7, 7), scale=(0.5, 1.5))
    with pytest.raises(ValueError, match="frames must be >= 1"):
        draw(torch.zeros(0, 7, 7), frames=0)


def starts_of(motion, count=2000, **changed):
    return motion_starts(motion, count=count, generator=torch.Generator().manual_seed(0), **changed)


@pytest.mark.parametrize("frames", [7, 8, 20, 31])
def test_starts_are_uniform_over_the_moving_half(frames):
    motion = torch.rand(frames, generator=torch.Generator().manual_seed(frames))
    clips = np.lib.stride_tricks.sliding_window_view(motion.numpy().astype(np.float64), 5).mean(axis=1)
    expected = np.flatnonzero(clips > np.median(clips)).tolist()
    starts = starts_of(motion, span=5)
    assert starts.dtype == torch.int64
    counts = torch.bincount(starts, minlength=frames)
    assert counts.nonzero()[:, 0].tolist() == expected
    assert counts[expected].min() > 0.6 * 2000 / len(expected)


def test_starts_where_nothing_or_little_moves():
    assert sorted(set(starts_of(torch.zeros(6), span=2).tolist())) == [0, 1, 2, 3, 4]
    assert sorted(set(starts_of(torch.full((6,), 0.1), span=2).tolist())) == [0, 1, 2, 3, 4]
    late = torch.tensor([0.0, 0, 0, 0, 0, 0, 0, 1])
    assert set(starts_of(late, span=2).tolist()) == {6}
    assert starts_of(torch.rand(4), span=4).unique().tolist() == [0]
    assert starts_of(torch.rand(4), span=4, count=0).shape == (0,)
    assert starts_of(torch.rand(9).numpy(), span=4).max() <= 5
    # at the median: more than half of the clips move alike
    assert set(starts_of(torch.tensor([0.0, 1, 1, 1, 1]), span=1).tolist()) == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("motion", "changed", "error", "text"),
    [
        (torch.zeros(2, 3), {}, ValueError, r"frame_motion must be \[F\], got \[2, 3\]"),
        (torch.zeros(3), {}, ValueError, "at least span=4 frames, got 3"),
        (torch.full((5,), float("nan")), {}, ValueError, "frame_motion must be finite"),
        (torch.zeros(5).long(), {}, TypeError, "frame_motion must be floating"),
        (torch.zeros(5), {"span": 0}, ValueError, "span must be an integer >= 1, got 0"),
        (torch.zeros(5), {"count": -1}, ValueError, "count must be an integer >= 0, got -1"),
        (torch.zeros(5), {"span": 2.0}, ValueError, "span must be an integer >= 1, got 2.0"),
    ],
)
def test_wrong_motion(motion, changed, error, text):
    with pytest.raises(error, match=f"^motion_starts: .*{text}"):
        motion_starts(motion, **{"span": 4, **changed})
