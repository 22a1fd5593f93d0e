"""A long run's reading: memory and open files stay where they were."""

import gc
import multiprocessing
import os
from pathlib import Path

import pytest

pytest.importorskip("av")
from torch.utils.data import DataLoader

from motionops.video import RandomClips, Video, VideoBatchSampler, VideoDataset, collate_videos, moving_shapes
from motionops.video.dataset import start_worker

WARM, ALL, BATCH = 200, 1300, 10


def resident_mib(process):
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files(process):
    return len(os.listdir(f"/proc/{process}/fd"))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("workers", [0, 2])
def test_1300_videos_leave_memory_and_files_as_200_do(tmp_path, workers):
    """Without the cache of decoded videos: each is opened and decoded."""
    folder = moving_shapes.generate(tmp_path, train=16, test=8, progress=False)
    paths = sorted(str(path) for path in folder.rglob("*.mp4"))
    videos = [Video(path, None) for path in (paths * (WARM // len(paths) + 1))[:WARM]]
    dataset = VideoDataset(videos, RandomClips(2, 16), seed=0, cache_bytes=0)
    batches = VideoBatchSampler(dataset, BATCH, steps=ALL // BATCH)
    seen, then = 0, {}
    for batch in DataLoader(
        dataset, batch_sampler=batches, num_workers=workers, collate_fn=collate_videos, worker_init_fn=start_worker
    ):
        seen += len(batch)
        assert batch.failed == []
        if seen in (WARM, ALL):  # the readers live as long as the loop
            del batch
            gc.collect()
            readers = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
            then[seen] = {process: (resident_mib(process), open_files(process)) for process in readers}
    assert seen == ALL
    before, after = then[WARM], then[ALL]
    assert before.keys() == after.keys()
    assert len(after) == 1 + workers
    # A reader holds files for batches that wait to be taken: some at first, none at the end.
    assert all(files <= before[process][1] for process, (_, files) in after.items())
    grown = sum(memory - before[process][0] for process, (memory, _) in after.items())
    assert grown < 10, "a decoded video is 0.1 MiB: a leak of one in ten would be seen"
