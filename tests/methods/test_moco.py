"""MoCo's loss against its formula, the keys that enter the queue, and what a batch's clips are."""

from dataclasses import replace

import pytest
import torch

from motionops.errors import UserError
from motionops.methods.moco import PRESETS, MoCo, MoCoConfig, make_dataset
from motionops.methods.moco.views import KEY, QUERY, cut
from motionops.training.data.videos import TrainingVideos
from motionops.video import collate_videos, read_list
from tests.methods.tiny import tiny, trained

BATCH, TAU = 4, 0.2


def module(**changes):
    torch.manual_seed(0)
    sizes = {"batch_size": BATCH, "dim": 8, "hidden": 16, "queue": 12, "size": 16, "temperature": TAU}
    return MoCo(replace(MoCoConfig(), **{**sizes, **changes}))


def test_the_loss_is_infonce_against_the_queue():
    moco = module()
    query, key = torch.randn(2, BATCH, 3, 8, 16, 16)
    losses, shown, enqueue = moco.losses(query, key, None)
    q = moco.path.head(moco.path.backbone(query).mean(dim=(2, 3, 4))).double()
    k = moco.path.key_head(moco.path.key_backbone(key).mean(dim=(2, 3, 4))).double()
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ moco.queue.features.double().T], dim=1) / TAU
    expected = (logits.logsumexp(dim=1) - logits[:, 0]).mean()
    torch.testing.assert_close(losses["nce"].double(), expected, rtol=1e-5, atol=1e-5)
    assert shown["accuracy"].item() == (logits.argmax(dim=1) == 0).double().mean().item()
    ((name, rows, ids),) = enqueue
    assert (name, ids) == ("queue", None)
    torch.testing.assert_close(rows.double(), k, rtol=1e-5, atol=1e-6)


def test_gradients_reach_the_query_alone():
    moco = module()
    moco.losses(*torch.randn(2, BATCH, 3, 8, 16, 16), None).losses["nce"].backward()
    learnt = {".".join(name.split(".")[:2]) for name, x in moco.named_parameters() if x.grad is not None}
    assert learnt == {"path.backbone", "path.head"}


def test_views_are_two_windows_of_one_video(shapes):
    config = replace(MoCoConfig(), size=16, jitter=0.0, blur=0.0, grayscale=0.0)
    dataset = make_dataset(config, TrainingVideos(read_list(shapes / "train.txt")))
    batch = collate_videos([dataset[0, number] for number in range(BATCH)])
    query, key = (cut(config, batch, view) for view in (QUERY, KEY))
    assert query.shape == key.shape == (BATCH, 3, 8, 16, 16)
    assert not torch.equal(query, key)
    starts = batch["starts"]
    assert batch["frames"].shape[1:3] == (2, config.window())
    assert torch.equal(batch["extents"][:, :, 0, 0].long(), starts)


def test_too_short_a_queue_is_refused():
    with pytest.raises(UserError, match="--queue: 31 negatives are fewer than the --batch-size of 32"):
        replace(PRESETS["demo"], queue=31).check()


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
