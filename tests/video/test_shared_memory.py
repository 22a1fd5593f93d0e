"""A reader that finds no room for its batch in shared memory says so, at once, in the process that waits for it."""

import re
import resource
from collections import namedtuple

import pytest
import torch
from torch.utils.data import DataLoader

from motionops.commandline import user_message
from motionops.errors import UserError
from motionops.nested import tensors_in
from motionops.video import collate_videos
from motionops.video.readers import shared_memory
from motionops.video.readers.shared_memory import listed, shortage
from tests.made_batch import made_batch

MOST = 1 << 20  # bytes of a file that a reader may write: shared memory is files


def little_room(worker):
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, MOST))


class Items(torch.utils.data.Dataset):
    def __init__(self, *shapes):
        self.shapes = shapes

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        return made_batch(torch.zeros(self.shapes[index], dtype=torch.uint8), index=index)


def loaded(collate, *shapes):
    return next(iter(DataLoader(Items(*shapes), len(shapes), num_workers=1, collate_fn=collate, timeout=60,
                                worker_init_fn=little_room)))  # fmt: skip


@pytest.mark.parametrize("collate", [collate_videos, listed])
@pytest.mark.parametrize("shapes", [((2 * MOST,), (2 * MOST,)), ((10,), (2 * MOST,))], ids=["stacked", "apart"])
def test_a_batch_without_room_is_an_error_that_names_the_flags(collate, shapes):
    with pytest.raises(UserError) as error:
        loaded(collate, *shapes)
    line = user_message(error.value)
    assert re.match(r"shared memory has no room for a batch \(\d+ MiB of \d+ MiB are free\); fewer --workers", line)
    assert "--shm-size" in line


def test_a_batch_is_in_shared_memory_before_it_is_handed_over():
    batch = loaded(collate_videos, (3, 2), (3, 2))
    assert batch.frames.shape == (2, 3, 2)
    assert batch.index.tolist() == [0, 1]
    assert [item.frames.shape for item in loaded(listed, (3, 2), (4,))] == [(3, 2), (4,)]
    assert not collate_videos([Items((3,))[0]]).frames.is_shared()  # nobody to share it with


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="something else"), shared_memory.room_for_a_batch():
        raise RuntimeError("something else")


def test_the_need_is_compared_with_what_is_free(monkeypatch):
    state = namedtuple("state", "f_bavail f_blocks f_frsize")
    monkeypatch.setattr(shared_memory.os, "statvfs", lambda folder: state(16 * 1024, 20 * 1024, 4096))  # 64, 80 MiB
    assert shortage(16 << 20, 2) is None  # 16 MiB x 2 readers x 2 batches
    assert shortage(20 << 20, 0) is None
    line = shortage(17 << 20, 2)
    assert line.startswith("2 readers with 2 batches of 17 MiB each need up to 68 MiB of shared memory (64 MiB of 80")
    monkeypatch.setattr(shared_memory, "FOLDER", "/no/such/folder")
    assert shortage(1 << 40, 2) is None


def test_an_items_tensors_are_found_wherever_they_are():
    from motionops.views import Appearance

    look = Appearance.sample(3, generator=torch.Generator())
    fields = [value for value in vars(look).values() if isinstance(value, torch.Tensor)]
    item = {"frames": torch.zeros(5), "more": [torch.zeros(2), (torch.zeros(3),)], "appearance": look, "label": 3}
    assert sum(t.numel() for t in tensors_in(item)) == 10 + sum(t.numel() for t in fields) > 10
