"""--monitor: scores every few epochs, in metrics.csv and with a kept backbone, and a run that it does not change."""

import csv
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from torch import distributed

pytest.importorskip("lightning")
from motionops.errors import UserError
from motionops.evaluation.end_of_run import measure_epoch
from motionops.models import load_backbone, read_metadata
from motionops.ranks import host_numbers
from motionops.training.run import train
from motionops.training.watch.monitor import Monitor
from tests.methods.tiny import parts_of, tiny
from tests.several_ranks import on_ranks

PATIENCE = 2.0  # seconds that a collective of the run waits


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def run(config):
    build, make_dataset, find = parts_of("moco")
    assert train(config, build, make_dataset, lambda *given: None, find, measure_epoch) == 0
    return rows(config.output)


def test_every_epoch_is_measured_and_none_is_changed(shapes, tmp_path):
    given = {"test_list": shapes / "test.txt", "evaluation_clips": 1}
    plain = run(tiny("moco", shapes, tmp_path / "plain", **given))
    watched = run(tiny("moco", shapes, tmp_path / "watched", **given, monitor=1))
    scores = [row for row in watched if row["R@1"]]
    assert [row["step"] for row in scores] == ["4", "8"]  # 16 videos in batches of 4, two epochs
    assert all(0 <= float(row[name]) <= 100 for row in scores for name in ("R@1", "kNN"))
    assert [row["loss"] for row in watched if not row["R@1"]] == [row["loss"] for row in plain]
    last = load_backbone(tmp_path / "watched" / "backbone-epoch-2.safetensors").state_dict()
    first = load_backbone(tmp_path / "watched" / "backbone-epoch-1.safetensors").state_dict()
    assert any(not torch.equal(first[name], last[name]) for name in last)
    assert read_metadata(tmp_path / "watched" / "backbone-epoch-1.safetensors")["frames"] == "4"


def test_without_test_videos_it_is_refused(shapes, tmp_path):
    with pytest.raises(UserError, match=r"--monitor: there are no labelled test videos .*--test-list"):
        run(tiny("moco", shapes, tmp_path / "run", monitor=1))


def measured_for_long(rank):
    """What the ranks tell each other after a measurement that outlasts the patience of their group."""
    module = SimpleNamespace(step=4, steps_per_epoch=4, between_steps=True, modules=list)
    trainer = SimpleNamespace(is_global_zero=rank == 0, loggers=[])
    monitor = Monitor(1, lambda *_: time.sleep(3 * PATIENCE) or {})
    monitor.on_train_start(trainer, module)
    distributed.barrier()
    distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=PATIENCE), distributed.group.WORLD)
    monitor.on_train_batch_end(trainer, module, None, None, 0)
    return host_numbers(rank + 1)


def test_the_other_ranks_outwait_a_long_measurement(tmp_path):
    assert on_ranks(measured_for_long, tmp_path) == [[1, 2], [1, 2]]
