"""The batches of several processes are shares of one plan: they must have found the same videos."""

import pytest

from motionops.errors import UserError
from motionops.learning.data import PlannedData, require_same_videos
from tests.learning.ranks import on_ranks


def test_equal_sets_pass():
    require_same_videos(["16 videos, ab12"])
    require_same_videos(["16 videos, ab12"] * 3)


def ask_for_batches(rank: int) -> str:
    with pytest.raises(UserError) as error:
        PlannedData(None, None, None, f"{16 - rank} videos, ab12").train_dataloader()
    return str(error.value)


def test_a_process_that_misses_a_video_ends_all(tmp_path):
    expected = (
        "the processes do not find the same usable videos, and cannot share them: "
        "process 0: 16 videos, ab12; process 1: 15 videos, ab12"
    )
    assert on_ranks(ask_for_batches, tmp_path) == [expected] * 2
