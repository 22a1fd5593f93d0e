"""Windows start anywhere where they fit, at different frames where there are enough."""

import pytest
import torch

from motionops.views.random_windows import random_windows


def drawn(count, window, frames, seed=0):
    return random_windows(count, window)(frames, torch.Generator().manual_seed(seed))


def test_every_start_where_a_window_fits_is_drawn_and_no_other():
    starts = torch.cat([drawn(1, 4, 9, seed)[:, 0] for seed in range(200)])
    assert sorted(set(starts.tolist())) == [0, 1, 2, 3, 4, 5]
    assert starts.bincount().min() > 15  # 33 of each are expected


@pytest.mark.parametrize(("frames", "different"), [(4, 1), (5, 2), (6, 3), (20, 3)])
def test_starts_differ_where_there_are_enough(frames, different):
    for seed in range(20):
        windows = drawn(3, 4, frames, seed)
        assert len(set(windows[:, 0].tolist())) == different
        assert torch.equal(windows, windows[:, :1] + torch.arange(4))
        assert windows.max() < frames
