"""What readers are started with can be sent to them: Python 3.14 starts them anew. And what they send is enough."""

import copy
import pickle

import pytest
import torch

from motionops.evaluation.features.clip_recipe import ClipRecipe
from motionops.evaluation.features.video_clips import VideoClips
from motionops.evaluation.protocols.finetuning.clips import make_dataset
from motionops.evaluation.protocols.finetuning.config import FinetuneConfig
from motionops.nested import tensors_in
from motionops.training.data.loading import PlannedData, prepare_worker
from motionops.training.data.videos import TrainingVideos
from motionops.video import collate_videos, read_list
from motionops.video.dataset import start_worker
from motionops.video.readers.cut_frames import CutFrames
from motionops.video.readers.shared_memory import listed
from tests.methods.steps import ready
from tests.methods.tiny import CARDS, NAMES
from tests.several_ranks import ready_to_fork

CASES = [(name, {}) for name in NAMES] + [(name, CARDS[name].flow) for name in NAMES if CARDS[name].flow]


def alike(one, other):
    one, other = list(tensors_in(one)), list(tensors_in(other))
    assert one
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize(
    ("name", "flags"), CASES, ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_a_methods_readers_can_be_sent_what_they_need(name, flags, shapes, tmp_path):
    _, dataset, _ = ready(name, shapes, tmp_path, batches=0, **flags)
    assert alike(pickle.loads(pickle.dumps(dataset))[1, 3], dataset[1, 3])


OTHERS = [
    ("fima", {"losses": ("vv", "vd"), "stride": 3}),
    ("mcl", {"seco": ("intra", "order"), "queue": 32}),
    ("modist", {"temporal_jitter": False, "gamma": 0.01}),
    ("modist", {"temporal_jitter": False}),
]


@pytest.mark.parametrize(
    ("name", "flags"), CASES + OTHERS, ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_a_step_looks_at_nothing_but_what_readers_send(name, flags, shapes, tmp_path):
    """Its losses are to the bit those of whole pictures. MCL that computes motion in the step needs those."""
    module, dataset, (sent,) = ready(name, shapes, tmp_path, batches=1, **flags)
    whole = PlannedData(module.config, module, dataset.of_whole_pictures(), "").train_dataloader()
    losses = []
    for batch in (sent, *whole):
        torch.manual_seed(0)
        losses.append(copy.deepcopy(module).training_step(batch, 0)["loss"])
    assert isinstance(sent.frames, CutFrames) == ("motion_source" not in flags)
    assert len(losses) == 2
    assert torch.equal(*losses)


@pytest.fixture
def labelled(shapes):
    return read_list(shapes / "train.txt")


@pytest.fixture
def config(tmp_path):
    return FinetuneConfig(
        output=tmp_path, frames=4, size=16, batch_size=4, workers=1, classes=tuple("01234567"), log_every=1
    )


def test_so_can_those_of_evaluations(labelled, config):
    for dataset in (
        make_dataset(config, TrainingVideos(labelled)),
        VideoClips(labelled, ClipRecipe(clips=2, frames=4, size=16)),
    ):
        assert alike(pickle.loads(pickle.dumps(dataset))[2], dataset[2])
    for function in (collate_videos, listed, start_worker, prepare_worker):
        assert pickle.loads(pickle.dumps(function)) is function


class Module(torch.nn.Module):
    step, total_steps = 0, 2


def test_readers_that_are_started_anew_read_the_same(labelled, config):
    """A supervised training stands for all."""
    dataset = make_dataset(config, TrainingVideos(labelled))
    batches = []
    for context in (None, ready_to_fork()):
        loader = PlannedData(config, Module(), dataset, "").train_dataloader()
        loader.multiprocessing_context = context
        batches.append(list(loader))
    assert len(batches[0]) == 2
    assert alike(*batches)
