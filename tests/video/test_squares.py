"""Frames that readers send as squares of one size."""

import numpy as np
import pytest
import torch
from PIL import Image

from motionops.video import Plan, Video, VideoDataset, collate_videos, read_video
from motionops.video.encoding import write_video
from motionops.video.readers.squares import Squares, brightness, centre_squares, squares_of


def test_a_square_is_the_middle_of_the_picture():
    """Of 4 x 8 pixels the columns 2 to 5, at their own size: nothing is resampled."""
    pictures = torch.randint(0, 256, (1, 3, 4, 8, 3), dtype=torch.uint8)
    assert torch.equal(centre_squares(pictures, 4), pictures[:, :, :, 2:6])
    upright = pictures.transpose(2, 3)
    assert torch.equal(centre_squares(upright, 4), upright[:, :, 2:6])


def test_squares_are_those_of_the_places_in_their_order():
    """More of them than are cut at once; twice the same is the same."""
    pictures = torch.randint(0, 256, (40, 6, 10, 3), dtype=torch.uint8)
    places = torch.cat([torch.arange(39, -1, -1), torch.tensor([7, 7])])
    made = squares_of(pictures, places, Squares(places, 5))
    assert made.shape == (42, 5, 5, 3)
    assert torch.equal(made, centre_squares(pictures[places][None], 5)[0])


def test_grey_squares_are_the_brightness_that_pillow_gives():
    """BT.601 of the square, rounded: Pillow's "L" has the same weights, cut to 16 bits and rounded."""
    pictures = torch.randint(0, 256, (5, 6, 6, 3), dtype=torch.uint8)
    made = squares_of(pictures, torch.arange(5), Squares(torch.arange(5), 6, grey=True))
    assert made.shape == (5, 6, 6, 1)
    assert made.dtype == torch.uint8
    expected = np.stack([np.asarray(Image.fromarray(picture.numpy()).convert("L")) for picture in pictures])
    assert np.abs(made[..., 0].numpy().astype(int) - expected).max() <= 1
    assert (made[..., 0].numpy() == expected).mean() > 0.95
    assert torch.equal(brightness(made), made[..., 0].float())


@pytest.mark.parametrize("cache", [0, 1 << 30])
def test_a_plan_that_wants_squares_gets_them_from_the_same_reading(tmp_path, cache):
    """A video of 5 frames, of which a longer one is asked: its last frame is held."""
    frames = torch.randint(0, 256, (5, 32, 48, 3), dtype=torch.uint8)
    write_video(tmp_path / "a.mp4", frames)
    whole = read_video(tmp_path / "a.mp4")
    numbers = torch.tensor([4, 0, 0, 7])

    def plan(video, generator):
        return Plan(torch.tensor([[1, 2], [3, 6]]), own=Squares(numbers, 8))

    data = VideoDataset([Video(str(tmp_path / "a.mp4"), None, 5)], plan, cache_bytes=cache)
    batch = collate_videos([data[0, 0], data[1, 0]])
    assert torch.equal(batch.frames[0], whole[torch.tensor([[1, 2], [3, 4]])])
    assert batch.own.shape == (2, 4, 8, 8, 3)
    assert torch.equal(batch.own[1], centre_squares(whole[None, [4, 0, 0, 4]], 8)[0])
