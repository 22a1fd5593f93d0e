"""What a module keeps in last.ckpt beside its networks."""

import copy

import pytest
import torch
from torch import nn

pytest.importorskip("lightning")
from motionops.errors import UserError
from motionops.training.config import TrainConfig
from motionops.training.method import Method
from motionops.video import Skipped
from tests.made_batch import made_batch


def module(**flags):
    made = Method(TrainConfig(**flags))
    made.backbone = nn.Linear(2, 2)
    return made


def test_what_was_logged_and_what_failed_outlive_an_interruption(tmp_path):
    before = module()
    before.step, before.metrics = 7, {"epoch": 0, "loss": 0.5}
    before.failed = [Skipped("a.mp4", "is empty"), Skipped("b.mp4", "no such file")]
    optimizer = before.configure_optimizers()
    checkpoint = {"state_dict": copy.deepcopy(before.state_dict()), "optimizer_states": [optimizer.state_dict()]}
    before.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    after = module()
    after.resume_from(torch.load(tmp_path / "last.ckpt", weights_only=True))
    assert (after.step, after.metrics, after.failed) == (before.step, before.metrics, before.failed)
    assert torch.equal(after.backbone.weight, before.backbone.weight)


def test_strict_stops_at_a_video_that_breaks_while_training():
    batch = made_batch(failed=[Skipped("a.mp4", "is empty")])
    with pytest.raises(UserError, match=r"--strict: a\.mp4: is empty"):
        module(strict=True).on_train_batch_start(batch, 0)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_lost_loss_is_an_error_of_the_users(loss):
    made = module()
    made.require_finite(torch.tensor(1.0))
    with pytest.raises(UserError, match="the loss of step 0 is not finite"):
        made.require_finite(torch.tensor(loss))
