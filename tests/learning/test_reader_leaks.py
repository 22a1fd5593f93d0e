"""A long run's reading: memory and open files stay where they were."""

import gc
import os
from pathlib import Path

import pytest

pytest.importorskip("av")
from torch.utils.data import DataLoader

from motionops.learning.batches import BatchPlan
from motionops.learning.data import random_windows
from motionops.video import Video, VideoDataset, collate_videos, moving_shapes

WARM, ALL, BATCH = 200, 2000, 10


def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_2000_videos_leave_memory_and_files_as_200_do(tmp_path):
    """In this process, where it can be seen, and without the cache of decoded videos: each is opened and decoded."""
    folder = moving_shapes.generate(tmp_path, train=16, test=8, progress=False)
    paths = sorted(str(path) for path in folder.rglob("*.mp4"))
    videos = [Video(path, None) for path in (paths * (WARM // len(paths) + 1))[:WARM]]
    dataset = VideoDataset(videos, random_windows(2, 16), seed=0, cache_bytes=0)
    plan = BatchPlan(len(videos), BATCH, ALL // BATCH, seed=0)
    seen, before = 0, None
    for batch in DataLoader(dataset, batch_sampler=plan, collate_fn=collate_videos):
        seen += len(batch["index"])
        assert batch["failed"] == []
        if seen == WARM:
            del batch
            gc.collect()
            before = resident_mib(), open_files()
    del batch
    gc.collect()
    assert seen == ALL
    assert open_files() == before[1]
    assert resident_mib() - before[0] < 16, "a decoded video is 0.1 MiB: a leak of one in ten would be seen"
