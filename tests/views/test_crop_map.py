"""The motion of a view's cells: by hand, against a picture painted pixel by pixel, mirrored, in time; bad arguments."""

import pytest
import torch

from motionops.views.crop_map import crop_map


def extent(y, x):
    return torch.tensor([[[0.0, 8.0], list(y), list(x)]])


def test_the_whole_picture_in_whole_cells():
    motion = torch.arange(16.0).view(1, 1, 4, 4)
    cells = crop_map(motion, extent((0, 1), (0, 1)), (1, 2, 2))
    assert cells.tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]


def test_a_view_within_cells_counts_them_by_share():
    motion = torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]])
    # Rows 1/4 to 3/4: half of each row. Columns 1/4 to 1: half of the first, the second whole, in two cells of 3/8.
    cells = crop_map(motion, extent((0.25, 0.75), (0.25, 1.0)), (1, 1, 2))
    left = (2 / 3) * (1 + 4) / 2 + (1 / 3) * (2 + 8) / 2
    assert cells.flatten().tolist() == pytest.approx([left, 5.0])


def test_a_mirrored_view_has_mirrored_cells():
    torch.manual_seed(0)
    motion = torch.rand(1, 3, 9, 11)
    plain = crop_map(motion, extent((0.1, 0.8), (0.3, 0.9)), (3, 4, 5))
    mirrored = crop_map(motion, extent((0.1, 0.8), (0.9, 0.3)), (3, 4, 5))
    torch.testing.assert_close(mirrored, plain.flip(-1))


def test_against_a_finely_painted_picture():
    torch.manual_seed(0)
    motion = torch.rand(1, 1, 7, 5, dtype=torch.float64)
    fine = 420  # points a side
    points = (torch.arange(fine, dtype=torch.float64) + 0.5) / fine
    rows, columns = 0.15 + 0.7 * points, 0.05 + 0.8 * points
    painted = motion[0, 0][(rows * 7).long()[:, None], (columns * 5).long()]
    expected = painted.view(3, fine // 3, 4, fine // 4).mean(dim=(1, 3))
    cells = crop_map(motion, extent((0.15, 0.85), (0.05, 0.85)), (1, 3, 4))
    torch.testing.assert_close(cells[0, 0], expected, atol=5e-3, rtol=0)


def test_frames_are_averaged_in_order():
    motion = torch.arange(8.0).view(1, 8, 1, 1)
    assert crop_map(motion, extent((0, 1), (0, 1)), (2, 1, 1)).flatten().tolist() == [1.5, 5.5]
    assert crop_map(motion, extent((0, 1), (0, 1)), (8, 1, 1)).flatten().tolist() == list(range(8))


def test_it_is_the_motion_of_the_pixels_that_the_view_shows():
    """A bright square in the picture is bright in the clip that augment_clips cuts, in the same cells."""
    import motionops

    frames = torch.zeros(2, 4, 48, 64, 3, dtype=torch.uint8)
    frames[:, :, 12:24, 40:56] = 255
    extents = torch.tensor([[[0.0, 4.0], [0.1, 0.7], [0.2, 1.0]], [[0.0, 4.0], [0.0, 0.6], [1.0, 0.3]]])
    clip = motionops.augment_clips(frames, extents, 48, mean=0.0, std=1.0)
    seen = torch.nn.functional.adaptive_avg_pool3d(clip[:, :1], (2, 4, 4))[:, 0]
    cells = crop_map(frames[..., 0].float() / 255, extents, (2, 4, 4))
    torch.testing.assert_close(cells, seen, atol=0.05, rtol=0)


def test_empty_batch():
    assert crop_map(torch.rand(0, 2, 4, 4), torch.rand(0, 3, 2), (1, 2, 2)).shape == (0, 1, 2, 2)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"maps": torch.zeros(1, 2, 4, 4, dtype=torch.int64)}, TypeError, "maps must be of a floating type"),
        ({"maps": torch.rand(2, 4, 4)}, ValueError, r"maps must be \[B, T, H, W\]"),
        ({"maps": torch.rand(1, 0, 4, 4)}, ValueError, "with T, H, W >= 1"),
        ({"extents": torch.rand(2, 3, 2)}, ValueError, r"extents must be \[B=1, 3, 2\], got \[2, 3, 2\]"),
        ({"extents": torch.zeros(1, 3, 2)}, ValueError, "must have an area"),
        ({"grid": (0, 2, 2)}, ValueError, "grid must be three positive numbers"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"maps": torch.rand(1, 2, 4, 4), "extents": extent((0, 1), (0, 1)), "grid": (1, 2, 2), **change}
    with pytest.raises(error, match=message):
        crop_map(**arguments)


def test_what_of_a_view_lies_outside_of_the_picture_counts_as_the_edge():
    maps = torch.rand(1, 1, 4, 4)
    extents = torch.tensor([[[0.0, 1.0], [-0.5, 0.5], [0.5, 1.5]]])
    ((cells,),) = crop_map(maps, extents, (1, 2, 2))
    edge, inside = maps[0, 0, 0], maps[0, 0, :2]
    expected = [[edge[2:].mean(), edge[3]], [inside[:, 2:].mean(), inside[:, 3].mean()]]
    torch.testing.assert_close(cells, torch.tensor(expected))
