"""soft_correspondence on every backend."""

from fractions import Fraction

import pytest
import torch

from motionops.geometry import soft_correspondence
from tests.geometry.samples import random_views

QUERY_GRID, KEY_GRID = (2, 3, 2), (3, 2, 4)


def exact(query, key, query_grid, key_grid):
    """S of one pair of extents in rational arithmetic."""

    def interval(axis, cells, i):
        start, end = (Fraction(value) for value in axis)
        edges = sorted((start + (end - start) * k / cells) for k in (i, i + 1))
        return edges

    def ratio(axis, i, j):
        a, b = interval(query[axis], query_grid[axis], i), interval(key[axis], key_grid[axis], j)
        return max(Fraction(0), min(a[1], b[1]) - max(a[0], b[0])) / (a[1] - a[0])

    def cells(grid):
        return [(t, y, x) for t in range(grid[0]) for y in range(grid[1]) for x in range(grid[2])]

    return [
        [float(ratio(0, i[0], j[0]) * ratio(1, i[1], j[1]) * ratio(2, i[2], j[2])) for j in cells(key_grid)]
        for i in cells(query_grid)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equals_rational_arithmetic(backend, dtype):
    query, key = random_views(40).to(dtype), random_views(40, seed=1).to(dtype)
    key[1] = query[1]
    key[2] = query[2].flip(1)
    key[3, :, 0], key[3, :, 1] = query[3, :, 1], query[3, :, 1] + 1  # touching
    key[4, :, 0], key[4, :, 1] = -1, 100  # nested
    key[5] = query[5] + 1000  # disjoint
    result = soft_correspondence(query.to(backend.device), key.to(backend.device), QUERY_GRID, KEY_GRID).cpu()
    assert result.dtype == dtype
    wanted = torch.tensor(
        [exact(q.tolist(), k.tolist(), QUERY_GRID, KEY_GRID) for q, k in zip(query, key, strict=True)],
        dtype=torch.float64,
    )
    tolerance = 1e-7 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(result.double(), wanted, rtol=tolerance, atol=1e-11)
    torch.testing.assert_close(result[4].sum(1), torch.ones(12, dtype=dtype))
    assert (result[5] == 0).all()


@pytest.mark.parametrize("parts", [1, 2])
def test_cells_that_touch_share_exactly_nothing(backend, parts):
    # A mirrored view of the same place, with cells as large or half as large: their edges are the same numbers.
    query = random_views(20).double()
    grid = (2, 3, 7)
    key_grid = tuple(parts * cells for cells in grid)
    device = backend.device
    result = soft_correspondence(query.to(device), query.flip(2).to(device), grid, key_grid).cpu()

    def inside(cells):  # [cells of the query, cells of the key] along an axis
        return torch.arange(cells)[:, None] == torch.arange(parts * cells).flip(0) // parts

    t, y, x = (inside(cells) for cells in grid)
    wanted = torch.einsum("ad,be,cf->abcdef", t.double(), y.double(), x.double()).reshape(result.shape[1:])
    assert torch.equal(result != 0, (wanted != 0).expand_as(result))
    torch.testing.assert_close(result, (wanted / parts**3).expand_as(result), rtol=1e-11, atol=0)
    assert result.double().sum(2).max() < 1 + 1e-6


def test_volume_by_random_points(backend):
    query, key = torch.tensor([[[0.0, 8], [0.1, 0.9], [0.8, 0.0]]]), torch.tensor([[[4.0, 16], [0.9, 0.3], [0.2, 1.0]]])
    share = soft_correspondence(query.to(backend.device), key.to(backend.device), (1, 2, 2), (2, 2, 1)).cpu()[0]
    generator = torch.Generator().manual_seed(0)
    place = torch.rand(200_000, 3, generator=generator, dtype=torch.float64)  # in the query view, 0 to 1
    point = query[0, :, 0] + place * (query[0, :, 1] - query[0, :, 0])
    inside = (point - key[0, :, 0]) / (key[0, :, 1] - key[0, :, 0])
    row = (place * torch.tensor([1, 2, 2])).long()
    column = (inside * torch.tensor([2, 2, 1])).floor().long()
    valid = ((inside >= 0) & (inside < 1)).all(1)
    row, column = row[:, 1] * 2 + row[:, 2], column[:, 0] * 2 + column[:, 1]
    counts = torch.zeros(4, 4)
    counts.index_put_((row[valid], column[valid]), torch.ones(int(valid.sum())), accumulate=True)
    torch.testing.assert_close(counts / torch.bincount(row, minlength=4)[:, None], share, rtol=0, atol=0.01)


def test_equal_views_are_the_identity_and_mirrored_ones_run_backwards(backend):
    view = torch.tensor([[[3.0, 7.0], [0.1, 0.8], [0.2, 0.9]]], device=backend.device)
    mirrored = view.clone()
    mirrored[:, 2] = view[:, 2].flip(1)
    same = soft_correspondence(view, view, (1, 1, 4), (1, 1, 4))[0]
    assert torch.equal(same, torch.eye(4, device=backend.device))
    back = soft_correspondence(view, mirrored, (1, 1, 4), (1, 1, 4))[0]
    torch.testing.assert_close(back, torch.eye(4, device=backend.device).flip(1), rtol=0, atol=1e-6)


def test_no_videos(backend):
    empty = torch.empty(0, 3, 2, device=backend.device)
    assert soft_correspondence(empty, empty, (1, 2, 3), (2, 2, 2)).shape == (0, 6, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rows_sum_to_one_inside_and_to_the_common_volume_across(backend, dtype):
    query, key = random_views(30).to(dtype), random_views(30, seed=1).to(dtype)
    key[:10, :, 0], key[:10, :, 1] = query[:10].amax(2), query[:10].amin(2)  # the same place, mirrored or not
    key[10:20, :, 0], key[10:20, :, 1] = -1, 100  # around
    ours = soft_correspondence(query.to(backend.device), key.to(backend.device), QUERY_GRID, KEY_GRID).cpu().double()
    torch.testing.assert_close(ours[:20].sum(2), torch.ones(20, 12, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    low = torch.maximum(query.amin(2), key.amin(2)).double()
    high = torch.minimum(query.amax(2), key.amax(2)).double()
    common = (high - low).clamp(min=0).prod(1) / query.double().diff(dim=2).abs()[..., 0].prod(1)
    torch.testing.assert_close(ours.sum(2).mean(1), common, rtol=1e-6, atol=1e-7)
    assert (common[20:] < 0.9).all()


def test_a_sliver_is_no_rounding(backend):
    """Views that share a millionth of a cell, and none: touching views share exactly nothing."""
    unit = torch.tensor([[[0.0, 1.0]] * 3], dtype=torch.float64, device=backend.device)
    for gap, share in ((-1e-6, 1e-6), (0.0, 0.0), (1e-6, 0.0)):
        beside = unit.clone()
        beside[0, 2] += 1 + gap
        ours = soft_correspondence(unit, beside, (1, 1, 1), (1, 1, 1)).item()
        assert ours == pytest.approx(share, rel=1e-9, abs=0)


@pytest.mark.parametrize("argument", ["query_extent", "key_extent"])
@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf")])
def test_a_view_without_volume(backend, argument, value):
    extents = {"query_extent": random_views(2), "key_extent": random_views(2)}
    extents[argument][1, 1] = value
    extents = {name: value.to(backend.device) for name, value in extents.items()}
    if backend.name == "cuda":
        assert soft_correspondence(**extents, query_grid=(1, 1, 1), key_grid=(1, 1, 1))[1].isnan().all()
        return
    with pytest.raises(ValueError, match=f"{argument} must have a finite length other than 0 .* along y of view 1"):
        soft_correspondence(**extents, query_grid=(1, 1, 1), key_grid=(1, 1, 1))


# ---- CUDA ------------------------------------------------------------------------------------------------------------
