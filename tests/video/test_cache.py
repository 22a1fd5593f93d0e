"""The cache's lock: processes of one machine that need the same thing make it once."""

import os
import time

import pytest

from motionops.errors import UserError
from motionops.motion.find_or_prepare import in_cache
from motionops.motion.prepared_file import Kind
from motionops.training.config import TrainConfig
from motionops.training.data.videos import find_training_videos
from motionops.video import checking, moving_shapes
from motionops.video.cache import one_at_a_time
from tests.several_ranks import in_processes, ready_to_fork


def inside(rank: int, folder, together) -> None:
    together.wait()
    with one_at_a_time(folder / "lock"):
        with open(folder / "log", "a") as log:
            log.write("in\n")
        time.sleep(0.5)
        with open(folder / "log", "a") as log:
            log.write("out\n")


def test_processes_take_turns(tmp_path):
    in_processes(inside, tmp_path, ready_to_fork().Barrier(2))
    assert (tmp_path / "log").read_text().split() == ["in", "out"] * 2


def test_where_nothing_can_be_locked_the_work_is_done_all_the_same(tmp_path):
    (tmp_path / "file").touch()
    done = []
    with one_at_a_time(tmp_path / "file" / "lock"):
        done.append(True)
    assert done


def test_a_cache_that_cannot_be_written_names_its_variable(monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", "/proc/nobody")  # nor by root
    with pytest.raises(UserError, match=r"^MOTIONOPS_CACHE: cannot write in /proc/nobody/moving_shapes-.*: No such"):
        moving_shapes.generate(train=8, test=8, progress=False)
    with pytest.raises(UserError, match=r"^MOTIONOPS_CACHE: cannot write in /proc/nobody/motion: No such file"):
        in_cache(Kind("motion", "prepare motion", ()), {}, [], ".sqlite", lambda *_: None)


def find(rank: int, folder, cache, together) -> None:
    os.environ["MOTIONOPS_CACHE"] = str(cache)
    measure = checking.measure

    def counted(path, decode):
        with open(cache / f"decoded-{rank}", "a") as log:
            log.write(f"{path}\n")
        return measure(path, decode)

    checking.measure = counted
    together.wait()
    assert len(find_training_videos(TrainConfig(data=folder), progress=False).usable) == 16


def test_ranks_that_start_together_decode_a_new_set_once(tmp_path):
    folder = moving_shapes.generate(tmp_path / "shapes", train=8, test=8, progress=False)
    (tmp_path / "cache").mkdir()
    in_processes(find, folder, tmp_path / "cache", ready_to_fork().Barrier(2))
    decoded = [line for log in (tmp_path / "cache").glob("decoded-*") for line in log.read_text().splitlines()]
    assert len(decoded) == len(set(decoded)) == 16
