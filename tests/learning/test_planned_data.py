"""The batches of several processes are shares of one plan: they must have found the same videos."""

import pytest
import torch.multiprocessing as processes
from torch import distributed

from motionops.errors import UserError
from motionops.learning.data import PlannedData, require_same_videos


def test_equal_sets_pass():
    require_same_videos(["16 videos, ab12"])
    require_same_videos(["16 videos, ab12"] * 3)


def ask_for_batches(rank: int, store: str, messages) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        with pytest.raises(UserError) as error:
            PlannedData(None, None, None, f"{16 - rank} videos, ab12").train_dataloader()
        messages[rank] = str(error.value)
    finally:
        distributed.destroy_process_group()


def test_a_process_that_misses_a_video_ends_all(tmp_path):
    with processes.Manager() as manager:
        messages = manager.dict()
        processes.spawn(ask_for_batches, (str(tmp_path / "store"), messages), nprocs=2)
        expected = (
            "the processes do not find the same usable videos, and cannot share them: "
            "process 0: 16 videos, ab12; process 1: 15 videos, ab12"
        )
        assert messages[0] == messages[1] == expected
