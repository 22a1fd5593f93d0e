"""MoCo's loss against its formula, the keys that enter the queue, and what a batch's clips are."""

import os
from dataclasses import replace

import pytest
import torch

from motionops.errors import UserError
from motionops.methods.moco import PRESETS, MoCo, MoCoConfig
from motionops.training.data.two_views import two_views
from motionops.training.data.videos import TrainingVideos
from motionops.video import collate_videos, read_list, read_video
from tests.methods.tiny import tiny, trained

BATCH, TAU = 4, 0.2


def module(**changes):
    torch.manual_seed(0)
    sizes = {"batch_size": BATCH, "dim": 8, "hidden": 16, "queue": 12, "size": 16, "temperature": TAU}
    return MoCo(replace(MoCoConfig(), **{**sizes, **changes}))


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_loss_is_infonce_against_the_queue(symmetric):
    moco = module(queue=16, symmetric=symmetric)
    one, two = torch.randn(2, BATCH, 3, 8, 16, 16)
    pairs = [(one, two), (two, one)] if symmetric else [(one, two)]
    queries, keys = (list(clips) for clips in zip(*pairs, strict=True))
    losses, shown, enqueue = moco.losses(queries, keys, [None] * len(keys))
    terms, first, expected_keys = [], [], []
    for query, key in pairs:
        q = moco.path.head(moco.path.backbone(query).mean(dim=(2, 3, 4))).double()
        k = moco.path.key_head(moco.path.key_backbone(key).mean(dim=(2, 3, 4))).double()
        logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ moco.queue.features.double().T], dim=1) / TAU
        terms.append(logits.logsumexp(dim=1) - logits[:, 0])
        first.append(logits.argmax(dim=1) == 0)
        expected_keys.append(k)
    torch.testing.assert_close(losses["nce"].double(), torch.cat(terms).mean(), rtol=1e-5, atol=1e-5)
    assert shown["accuracy"].item() == torch.cat(first).double().mean().item()
    for (name, rows, ids), k in zip(enqueue, expected_keys, strict=True):
        assert (name, ids) == ("queue", None)
        torch.testing.assert_close(rows.double(), k, rtol=1e-5, atol=1e-6)


def test_gradients_reach_the_query_alone():
    moco = module()
    query, key = torch.randn(2, BATCH, 3, 8, 16, 16)
    moco.losses([query], [key], [None]).losses["nce"].backward()
    learnt = {".".join(name.split(".")[:2]) for name, x in moco.named_parameters() if x.grad is not None}
    assert learnt == {"path.backbone", "path.head"}


@pytest.mark.parametrize("symmetric", [False, True])
def test_views_are_two_windows_of_one_video(shapes, symmetric):
    moco = module(jitter=0.0, blur=0.0, grayscale=0.0, symmetric=symmetric)
    dataset = two_views(moco.config, TrainingVideos(read_list(shapes / "train.txt"))).of_whole_pictures()
    batch = collate_videos([dataset[0, number] for number in range(BATCH)])
    queries, keys, shuffles = moco.prepare(batch)
    assert len(queries) == len(keys) == len(shuffles) == 1 + symmetric
    assert queries[0].shape == keys[0].shape == (BATCH, 3, 8, 16, 16)
    assert not torch.equal(queries[0], keys[0])
    if symmetric:
        assert queries[1] is keys[0]
        assert keys[1] is queries[0]
    assert batch.frames.shape[1:3] == (2, 8)
    assert torch.equal(batch.extents[:, :, 0, 0].long(), batch.starts)
    for video, frames, starts in zip(dataset.paths, batch.frames, batch.starts, strict=False):
        whole = read_video(os.fsdecode(bytes(video)))
        assert all(torch.equal(frames[v], whole[start : start + 16 : 2]) for v, start in enumerate(starts.tolist()))


@pytest.mark.parametrize(("symmetric", "keys"), [(True, 64), (False, 32)])
def test_too_short_a_queue_is_refused(symmetric, keys):
    with pytest.raises(UserError, match=f"--queue: {keys - 1} negatives are fewer than the {keys} keys of a step"):
        replace(PRESETS["demo"], queue=keys - 1, symmetric=symmetric).check()


def test_clipped_gradients_are_as_long_as_said(shapes, tmp_path):
    """The first step of SGD moves all weights together by the rate times the norm of their gradient."""
    flags = {"optimizer": "sgd", "learning_rate": 0.5, "warmup_epochs": 0.0, "weight_decay": 0.0, "max_steps": 1}
    after = {}
    for clip in (0.0, 1e-3, 1e-9):  # the last moves nothing
        folder = trained("moco", tiny("moco", shapes, tmp_path / str(clip), **flags, clip_gradient=clip))
        after[clip] = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    learnt = [name for name, weight in module().named_parameters() if weight.requires_grad]
    moved = [
        sum(float((after[clip][name] - after[1e-9][name]).square().sum()) for name in learnt) ** 0.5
        for clip in (0.0, 1e-3)
    ]
    assert moved[0] > 10 * 0.5e-3
    assert moved[1] == pytest.approx(0.5e-3, rel=1e-3)


def test_a_run_of_no_steps_trains_nothing_and_says_so(shapes, tmp_path, capsys):
    folder = trained("moco", tiny("moco", shapes, tmp_path / "run", max_steps=0, workers=0))
    assert "nothing to train: 0 of 0 steps are done" in capsys.readouterr().err
    assert not (folder / "last.ckpt").exists()
