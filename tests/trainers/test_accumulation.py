"""--accumulate: a step in parts is the step of the whole batch, where nothing in it depends on the batch."""

import csv

import fima
import pytest
import torch
from torch import nn

from motionops.errors import UserError
from motionops.learning import MomentumEncoder


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


def test_parts_equal_the_larger_batch(tiny, tmp_path, without_batchnorm):
    runs = {parts: tiny(output=tmp_path / str(parts), losses=("vv",), accumulate=parts, queue=32) for parts in (1, 2)}
    runs = {parts: (fima.main(config), config.output)[1] for parts, config in runs.items()}
    whole, parts = rows(runs[1]), rows(runs[2])
    assert len(whole) == len(parts) == 12  # steps are updates, not parts
    for one, two in zip(whole, parts, strict=True):
        # Before the first update only the order of sums differs; AdamW's steps then amplify that.
        within = 1e-5 if one["step"] == 1 else 2e-3
        for name in ("loss", "loss_vv", "accuracy", "learning_rate"):
            assert two[name] == pytest.approx(one[name], abs=within), (one, two)
    one, two = state(runs[1]), state(runs[2])
    # The same keys are in the queue, those of a part together.
    for name in one:
        if name.startswith(("key_", "backbone.")):
            assert torch.allclose(one[name], two[name], atol=2e-2), name
    assert one["queues.vv.position"] == two["queues.vv.position"]
    first, second = one["queues.vv.features"], two["queues.vv.features"]
    nearest = (first[:, None] - second).abs().amax(dim=-1).min(dim=1)
    assert nearest.values.max() < 5e-2
    assert len(set(nearest.indices.tolist())) == len(first)


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
