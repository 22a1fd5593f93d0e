"""--monitor: scores every few epochs, in metrics.csv and with a kept backbone, and a run that it does not change."""

import csv
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from torch import distributed, nn

pytest.importorskip("lightning")
from motionops.errors import UserError
from motionops.evaluation import monitoring
from motionops.evaluation.features.labelled_features import LabelledFeatures
from motionops.evaluation.monitoring import measure_epoch
from motionops.models import load_backbone, read_metadata
from motionops.ranks import host_numbers
from motionops.training.config import TrainConfig
from motionops.training.data.manifest import TrainingVideos
from motionops.training.method import Method
from motionops.training.run import train
from motionops.training.watch.monitor import Monitor
from motionops.video import Video
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


def at(degrees):
    return torch.stack([torch.tensor(degrees).deg2rad().cos(), torch.tensor(degrees).deg2rad().sin()], dim=1)


def test_scores_are_those_of_the_test_videos_among_the_training_videos(tmp_path, monkeypatch):
    """The query at 9 degrees: its nearest is right, and the two behind that one together outvote it."""
    videos = [[Video(f"{n}.mp4", label) for n, label in enumerate(labels)] for labels in ("abb", "aaba")]
    features = {3: at([0.0, 20.0, 25.0]), 4: at([9.0, 0.0, 30.0, 30.0])}
    monkeypatch.setattr(
        monitoring, "labelled_features", lambda _, part, **__: LabelledFeatures(features[len(part)], part, [])
    )
    kept = []
    monkeypatch.setattr(monitoring, "keep_backbone", lambda config, module, name: kept.append(name))
    module = Method(TrainConfig(output=tmp_path))
    module.backbone = nn.Linear(2, 2)
    scores = measure_epoch(module.config, TrainingVideos(videos[0], [], videos[1]), module, 7)
    assert scores == {"R@1": 75.0, "kNN": 50.0}
    assert kept == ["backbone-epoch-7.safetensors"]


def test_what_was_in_training_and_what_was_not_is_so_again():
    module = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2).eval())
    module.step, module.steps_per_epoch, module.between_steps = 4, 4, True
    trainer = SimpleNamespace(is_global_zero=True, loggers=[])
    for mode in (True, False):  # what a measurement may leave behind
        Monitor(1, lambda module, _, mode=mode: module.train(mode) and {}).on_train_batch_end(
            trainer, module, {}, None, 3
        )
        assert [each.training for each in module.modules()] == [True, True, False]


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
