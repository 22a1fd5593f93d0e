"""--accumulate: a step in parts is the step of the whole batch, where nothing in it depends on the batch.

So it is with FIMA's vv, MCL and MoDist, whose negatives are those of the queue, once BatchNorm is replaced by a norm
over each sample. Controllable Augmentations and Context-Motion have no queue: their negatives are the videos of the
batch that a loss sees, which in parts is a part, and their losses are other ones then.

SGD and not AdamW, whose steps hardly depend on how long a gradient is: parts that were summed, and not averaged, gave
AdamW nearly the same weights.
"""

import csv
from dataclasses import replace

import fima
import mcl
import modist
import pytest
import torch
from torch import nn

from motionops.errors import UserError
from motionops.learning import MomentumEncoder

# Another order of sums in float32: after these steps losses of 0.01 to 14, and weights, differ by 8e-6 at most.
AS_SUMS_GO = 5e-5

SMALL = {"batch_size": 4, "size": 16, "epochs": 2, "queue": 32, "hidden": 16, "dim": 16, "workers": 0}
SMALL |= {"log_every": 1, "evaluation_clips": 1}
PLAIN_SGD = {"optimizer": "sgd", "learning_rate": 0.1, "warmup_epochs": 0.0, "weight_decay": 0.0}

# trainer, flags, its columns, its queues
METHODS = {
    "fima": (fima, fima.FIMAConfig(losses=("vv",)), ("loss_vv",), ("queues.vv",)),
    "mcl": (
        mcl,
        # v3: the loss is made of a gradient, and differentiated again.
        mcl.MCLConfig(frames=4, size=32, motion_source="on-the-fly", alignment_variant="v3"),
        ("loss_nce", "loss_st", "loss_s", "loss_t"),
        ("queue",),
    ),
    "modist": (
        modist,
        modist.MoDistConfig(frames=4, motion_frames=4, motion="frame-difference", gamma=0.0),
        ("loss_v", "loss_m", "loss_mv"),
        ("queue", "motion_queue"),
    ),
}


class SampleNorm(nn.GroupNorm):
    """In place of BatchNorm: what a step computes then has no batch in it."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def state(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture
def without_batchnorm(monkeypatch):
    monkeypatch.setattr(nn, "BatchNorm3d", SampleNorm)


@pytest.mark.parametrize("method", METHODS)
def test_parts_equal_the_larger_batch(shapes, tmp_path, without_batchnorm, method):
    trainer, config, losses, queues = METHODS[method]
    given = {"data": shapes, "list": shapes / "train.txt", **SMALL, **PLAIN_SGD}
    given |= {"size": config.size} if method == "mcl" else {}
    for parts in (1, 2):
        assert trainer.main(replace(config, output=tmp_path / str(parts), accumulate=parts, **given)) == 0
    whole, parts = rows(tmp_path / "1"), rows(tmp_path / "2")
    assert len(whole) == len(parts) == 8  # steps are updates, not parts
    for one, two in zip(whole, parts, strict=True):
        for name in ("loss", *losses, "accuracy", "learning_rate"):
            assert two[name] == pytest.approx(one[name], abs=AS_SUMS_GO), (name, one, two)
    one, two = state(tmp_path / "1"), state(tmp_path / "2")
    assert one.keys() == two.keys()
    for name in one:
        if not name.startswith(queues):
            torch.testing.assert_close(two[name], one[name], rtol=0, atol=AS_SUMS_GO, msg=name)
    for queue in queues:  # the same keys are there, those of a part together
        assert one[f"{queue}.position"] == two[f"{queue}.position"]
        first, second = one[f"{queue}.features"], two[f"{queue}.features"]
        nearest = (first[:, None] - second).abs().amax(dim=-1).min(dim=1)
        assert nearest.values.max() < AS_SUMS_GO
        assert len(set(nearest.indices.tolist())) == len(first)
        assert torch.equal(one[f"{queue}.ids"], two[f"{queue}.ids"][nearest.indices])


def test_momentum_encoders_move_once_a_step(tiny, monkeypatch):
    moved, update = [], MomentumEncoder.update
    monkeypatch.setattr(MomentumEncoder, "update", lambda self, network: moved.append(self) or update(self, network))
    assert fima.main(tiny(accumulate=2, max_steps=3)) == 0
    assert len(moved) == 3 * 2  # of the backbone and of its head


def test_a_resumed_run_in_parts_equals_an_uninterrupted_one(tiny, tmp_path):
    whole = tiny(output=tmp_path / "whole", accumulate=2, losses=("vv", "pix"))
    assert fima.main(whole) == 0
    assert fima.main(tiny(output=tmp_path / "cut", accumulate=2, losses=("vv", "pix"), max_steps=5)) == 0
    assert fima.main(tiny(output=tmp_path / "cut", accumulate=2, losses=("vv", "pix"), resume=True)) == 0
    for one, two in zip(rows(whole.output), rows(tmp_path / "cut"), strict=True):
        assert {**one, "clips_per_second": 0} == {**two, "clips_per_second": 0}


def test_what_cannot_be_divided_is_said(tiny):
    with pytest.raises(UserError, match="--accumulate: 4 videos of a process cannot be computed in 3 parts"):
        fima.main(tiny(accumulate=3))
    with pytest.raises(UserError, match="--accumulate: must be at least 1, got 0"):
        fima.check_numbers(tiny(accumulate=0))
