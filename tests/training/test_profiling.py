"""Where a step goes: each part's time where it was spent, bytes as counted by hand, no paths of the machine."""

import json
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from motionops import library
from motionops.contrast.feature_queue import FeatureQueue
from motionops.contrast.momentum_encoder import MomentumEncoder
from motionops.models import build_backbone
from motionops.motion.pair_motion import RAFTPairs
from motionops.training.watch.profiling import WARM_UP, StepProfile, mean_size
from motionops.video import FrameReader, Plan, Video, VideoDataset, VideoError, collate_videos
from motionops.video.dataset import start_worker
from motionops.video.encoding import write_video
from tests.made_batch import made_batch
from tests.video.video_files import numbered_frames

FRAMES = 4
# What each part of the made step takes, in milliseconds of a clock of its own.
TAKES = {"wait": 11, "copy": 23, "flow": 47, "networks": 31, "other": 5, "backward": 17, "optimizer": 7, "after": 13}


class Clock:
    now = 0.0


def spend(part):
    Clock.now += TAKES[part] / 1e3


class Method(nn.Module):
    """A module as a step has it: a backbone and its momentum copy, a queue, and RAFT, which is none of its parts."""

    def __init__(self):
        super().__init__()
        self.backbone = build_backbone("r3d_small")
        self.backbone.forward = lambda clips: clips[:, :1]
        self.key_backbone = MomentumEncoder(self.backbone)
        self.key_backbone.network.forward = lambda clips: (spend("networks"), clips[:, :2])[1]
        self.queue = FeatureQueue(8, 4)
        self.pair_flow = RAFTPairs.__new__(RAFTPairs)  # its weights are a download
        self.pair_flow.network = nn.Identity()
        self.pair_flow.network.forward = lambda pairs: (spend("flow"), pairs)[1]
        self.between_steps, self.clips_per_step = True, 6


@pytest.fixture
def videos(tmp_path):
    for number in range(3):
        write_video(tmp_path / f"{number}.mp4", numbered_frames(20))
    return [Video(str(tmp_path / f"{number}.mp4"), None, 20) for number in range(3)]


def sample(video, generator):
    return Plan(torch.randint(0, video.frames - FRAMES, (2, 1), generator=generator) + torch.arange(FRAMES))


def run(profiled, module, dataset, steps):
    """The hooks of a run, in Lightning's order."""
    strategy = SimpleNamespace(batch_to_device=lambda batch: (spend("copy"), batch)[1])
    trainer = SimpleNamespace(datamodule=SimpleNamespace(dataset=dataset), strategy=strategy)
    profiled.setup(trainer, module, stage="fit")
    batch = made_batch(torch.zeros(3), decoding=0.25)
    clips = torch.zeros(3, 3, 4, 8, 8)
    profiled.on_train_start(trainer, module)
    for number in range(steps):
        spend("wait")
        strategy.batch_to_device(batch)
        profiled.on_train_batch_start(trainer, module, batch, number)
        module.backbone(clips)
        module.key_backbone(clips)
        module.pair_flow.network(clips)
        spend("other")
        profiled.on_before_backward(trainer, module, None)
        spend("backward")
        profiled.on_after_backward(trainer, module)
        spend("optimizer")
        profiled.on_train_batch_end(trainer, module, None, batch, number)
        module.queue.enqueue(torch.zeros(5, 4))
        spend("after")
        profiled.last.on_train_batch_end(trainer, module, None, batch, number)
    profiled.on_train_end(trainer, module)
    assert strategy.__dict__.keys() == {"batch_to_device"}


def test_each_part_gets_its_own_time_and_bytes(tmp_path, videos, monkeypatch):
    monkeypatch.setattr(StepProfile, "_now", lambda self: Clock.now)
    module, said = Method(), []
    about = {"workers": 3, "decoder": "pyav", "data": "/here/K400", "list": "lists/train.csv", "size": 8}
    run(StepProfile(2, tmp_path / "report", about, said.append), module, VideoDataset(videos, sample), WARM_UP + 2)
    profile = json.loads((tmp_path / "report" / "profile.json").read_text())

    for part, milliseconds in profile["milliseconds"].items():
        assert milliseconds == pytest.approx(TAKES.get(part, 0.0), abs=1e-9), part
    assert profile["decoding"] == {"milliseconds": 250.0, "readers": 3, "decoder": "pyav"}
    assert profile["counts"] == {
        "processes": 1,
        "videos": 3,
        "clips": 6,
        "file_bytes": sum((tmp_path / f"{number}.mp4").stat().st_size for number in range(3)) / 3,
        "gradient_bytes": 4 * sum(parameter.numel() for parameter in module.backbone.parameters()),
        "key_clip_bytes": 4 * 3 * 3 * 4 * 8 * 8,  # of the copy, not of the trained network
        "key_map_bytes": 4 * 3 * 2 * 4 * 8 * 8,
        "key_bytes": 5 * (4 * 4 + 8),  # rows and the ids of their videos
    }
    assert profile["run"] == {**about, "data": "K400"}
    assert "decoding in 3 readers beside it: 250.00 ms of a core a step" in said[1]

    # All is as it was.
    assert "enqueue" not in vars(module.queue)
    for network in (module.backbone, module.key_backbone.network, module.pair_flow.network):
        assert "_compiled_call_impl" not in vars(network)
    assert library.ops() is torch.ops.motionops


def test_files_that_are_gone_have_no_size(videos):
    dataset = VideoDataset([Video("/nowhere/1.mp4", None, 20)], sample)
    assert mean_size(dataset) is None


class Burning(FrameReader):
    """Decoding burns 30 ms of a core, and waits as long for the storage."""

    def read(self, video, plan, whole):
        burn()
        return super().read(video, plan, whole)


def burn():
    end = time.thread_time() + 0.03
    while time.thread_time() < end:
        pass
    time.sleep(0.03)


def test_decoding_is_timed_where_it_is_asked_for(videos):
    dataset = VideoDataset(videos, sample, cache_bytes=0, reader=Burning())
    assert dataset[0].decoding is None
    dataset.time_decoding = True
    assert 0.03 <= dataset[0].decoding < 0.06  # not the storage's 30 ms


def test_a_video_in_memory_is_decoded_once(videos):
    dataset = VideoDataset(videos, sample)
    dataset.time_decoding = True
    first, second = dataset[0, 1], dataset[1, 1]
    assert first.decoding > 0
    assert second.decoding == 0
    assert dataset[1, 2].decoding > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_has_the_sum_of_its_videos(videos, workers):
    dataset = VideoDataset(videos, sample, cache_bytes=0, reader=Burning())
    dataset.time_decoding = True
    loader = DataLoader(
        dataset, batch_size=3, num_workers=workers, collate_fn=collate_videos, worker_init_fn=start_worker
    )
    (batch,) = loader
    assert isinstance(batch.decoding, float)
    assert 3 * 0.03 <= batch.decoding < 3 * 0.06


def test_another_reader_is_timed_too(videos):
    dataset = VideoDataset(videos, sample)
    dataset.time_decoding = True
    assert dataset.with_reader(Burning())[0].decoding >= 0.03


def test_a_replaced_video_has_the_time_of_the_one_in_its_place(videos):
    class Broken(Burning):
        def read(self, video, plan, whole):
            if video.index == 0:
                raise VideoError(video.path, "broken")
            return super().read(video, plan, whole)

    dataset = VideoDataset(videos, sample, cache_bytes=0, reader=Broken())
    dataset.time_decoding = True
    assert 0.03 <= dataset[0].decoding < 0.06
