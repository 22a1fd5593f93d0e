"""Clips of motion vectors: where they are read, how long their vectors become, key frames that have none."""

import pytest
import torch

import motionops
from motionops.motion.vector_clips import fill_key_frames, vector_clips


def extent(y=(0.0, 1.0), x=(0.0, 1.0)):
    return torch.tensor([[[0.0, 1.0], [*y], [*x]]])


def test_every_pixel_by_hand():
    """A crop of a 19 x 26 picture whose last cells reach beyond it; the value is linear, so interpolation is exact."""
    cell, height, width, size = 8, 19, 26, 7
    rows, columns = torch.arange(3) * cell + cell / 2, torch.arange(4) * cell + cell / 2  # the cells' centres
    field = torch.stack([2.0 * rows[:, None] + columns[None], rows[:, None] - 3.0 * columns[None]])
    motion = torch.stack([field, -field])[None]
    box = extent((0.3, 0.9), (0.8, 0.25))  # mirrored
    found = vector_clips(motion, box, size, torch.tensor([[height, width]]), cell=cell)
    assert found.shape == (1, 2, 2, size, size)
    for i in range(size):
        for j in range(size):
            y = (0.3 + 0.6 * (i + 0.5) / size) * height
            x = (0.8 - 0.55 * (j + 0.5) / size) * width
            y, x = min(max(y, 4.0), 20.0), min(max(x, 4.0), 28.0)  # edges are repeated
            u = (2 * y + x) * size / (-0.55 * width)
            v = (y - 3 * x) * size / (0.6 * height)
            for frame, sign in ((0, 1.0), (1, -1.0)):
                assert found[0, :, frame, i, j].tolist() == pytest.approx([sign * u, sign * v], abs=1e-4)


def test_it_cuts_as_augment_clips_cuts_frames():
    """With cells of one pixel, values that are colours lie where the frames' lie; the length is taken out again."""
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (2, 3, 20, 30, 3), dtype=torch.uint8)
    extents = motionops.sample_extents(2, frames=1, frame_count=1, height=20, width=30)
    cut = motionops.augment_clips(frames, extents, 12, mean=0.0, std=1.0)[:, :2] * 255
    motion = frames[..., :2].permute(0, 1, 4, 2, 3).float()
    found = vector_clips(motion, extents, 12, torch.tensor([[20, 30]] * 2), cell=1)
    sides = (extents[:, 1:, 1] - extents[:, 1:, 0]) * torch.tensor([20.0, 30.0])
    lengths = sides.flip(1)[:, :, None, None, None] / 12
    torch.testing.assert_close(found * lengths, cut, rtol=1e-4, atol=1e-2)


def test_a_mirrored_view_moves_the_other_way():
    motion = torch.randn(1, 2, 2, 5, 5)
    picture = torch.tensor([[40, 40]])
    straight = vector_clips(motion, extent(), 10, picture)
    mirrored = vector_clips(motion, extent(x=(1.0, 0.0)), 10, picture)
    torch.testing.assert_close(mirrored[:, 0], -straight[:, 0].flip(-1))
    torch.testing.assert_close(mirrored[:, 1], straight[:, 1].flip(-1))


def test_lengths_are_pixels_of_the_view():
    """A crop of half the width and a quarter of the height, seen at 40 pixels: 2 and 4 times as many pixels."""
    motion = torch.ones(1, 1, 2, 5, 5)
    found = vector_clips(motion, extent((0.5, 0.75), (0.1, 0.6)), 40, torch.tensor([[40, 40]]))
    torch.testing.assert_close(found[0, 0], torch.full((1, 40, 40), 2.0))
    torch.testing.assert_close(found[0, 1], torch.full((1, 40, 40), 4.0))


def test_videos_of_several_sizes():
    torch.manual_seed(0)
    pictures = torch.tensor([[40, 40], [33, 50], [24, 16]])
    motion = [torch.randn(3, 2, -(-h // 8), -(-w // 8)) for h, w in pictures.tolist()]
    extents = motionops.sample_extents(3, frames=1, frame_count=1)
    together = vector_clips(motion, extents, 9, pictures)
    for b in range(3):
        alone = vector_clips(motion[b][None], extents[b : b + 1], 9, pictures[b : b + 1])
        assert torch.equal(together[b], alone[0])


def test_key_frames_take_the_vectors_of_a_neighbour():
    motion = torch.zeros(2, 6, 2, 1, 2)
    motion[0, 1], motion[0, 4] = 1.0, 2.0
    motion[1, 0, 1, 0, 1] = 3.0
    intra = torch.tensor([[True, False, True, False, False, True], [False, True, True, True, True, True]])
    filled = fill_key_frames(motion, intra)
    assert filled[0, :, 0, 0, 0].tolist() == [1, 1, 1, 0, 2, 2]  # the fourth is coded, and stands still
    assert filled[1, :, 1, 0, 1].tolist() == [3] * 6
    assert filled[1, :, 0].abs().max() == 0
    assert torch.equal(fill_key_frames(motion, torch.zeros(2, 6, dtype=torch.bool)), motion)


def test_wrong_shapes():
    picture = torch.tensor([[40, 40]])
    with pytest.raises(ValueError, match=r"extents must be \[B=1, 3, 2\], got \[2, 3, 2\]"):
        vector_clips(torch.zeros(1, 2, 2, 5, 5), extent().repeat(2, 1, 1), 8, picture)
    with pytest.raises(ValueError, match=r"pictures must be \[B=1, 2\], got \[2\]"):
        vector_clips(torch.zeros(1, 2, 2, 5, 5), extent(), 8, picture[0])
    with pytest.raises(ValueError, match=r"motion must be \[B, T, 2, h, w\], got clips of \[2, 3, 5, 5\]"):
        vector_clips(torch.zeros(1, 2, 3, 5, 5), extent(), 8, picture)
