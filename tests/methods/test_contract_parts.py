"""A batch in parts, on two processes or one part after another, is the whole batch, where nothing depends on it.

BatchNorm is replaced by a norm over each sample. Losses whose negatives are the batch are another loss in a part of
it, and on two processes the same one, as these see each other's keys.
"""

import csv

import pytest
import torch

from tests.methods.tiny import CARDS, NAMES, tiny, trained
from tests.runs.sample_norm import put_in_place
from tests.several_ranks import as_torchrun_does

# Another order of sums in float32: after these steps losses of 0.01 to 14, and weights, differ by 8e-6 at most.
AS_SUMS_GO = 5e-5
# MINE's moving average is of exponentials.
OF_EXPONENTIALS = {"information.theta.log_partition": 5e-3}
STEPS = 4

IN_PARTS = [name for name in NAMES if CARDS[name].accumulate is not None]
ON_RANKS = [(name, flags) for name in NAMES for flags in CARDS[name].ranks]


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def state(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("method", IN_PARTS)
def test_accumulated_parts_equal_the_larger_batch(once, shapes, tmp_path, without_batchnorm, method):
    flags = dict(CARDS[method].accumulate, max_steps=STEPS)
    one = once(trained, method, norm=False, **flags)
    two = trained(method, tiny(method, shapes, tmp_path, **flags, accumulate=2))
    assert len(rows(one)) == len(rows(two)) == STEPS  # steps are updates, not parts
    for first, second in zip(rows(one), rows(two), strict=True):
        for name in first.keys() - {"clips_per_second", "waiting"}:
            assert second[name] == pytest.approx(first[name], abs=AS_SUMS_GO), (name, first, second)
    one, two = state(one), state(two)
    assert one.keys() == two.keys()
    queues = {name.removesuffix(".position") for name in one if name.endswith(".position")}
    assert queues
    for name in one:
        if not name.startswith(tuple(queues)):
            torch.testing.assert_close(two[name], one[name], rtol=0, atol=AS_SUMS_GO, msg=name)
    for queue in queues:  # the same keys are there, those of a part together
        assert one[f"{queue}.position"] == two[f"{queue}.position"]
        first, second = one[f"{queue}.features"], two[f"{queue}.features"]
        nearest = (first[:, None] - second).abs().amax(dim=-1).min(dim=1)
        assert nearest.values.max() < AS_SUMS_GO
        assert len(set(nearest.indices.tolist())) == len(first)
        assert torch.equal(one[f"{queue}.ids"], two[f"{queue}.ids"][nearest.indices])


def train_on_rank(method, config):
    torch.set_num_threads(1)
    put_in_place()
    trained(method, config)


@pytest.mark.parametrize(
    ("method", "flags"), ON_RANKS, ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_two_processes_equal_one(once, shapes, tmp_path, method, flags):
    """gloo."""
    one = once(trained, method, norm=False, **flags, max_steps=STEPS)
    as_torchrun_does(train_on_rank, method, tiny(method, shapes, tmp_path, **flags, max_steps=STEPS))
    assert len(rows(one)) == len(rows(tmp_path)) == STEPS
    for first, second in zip(rows(one), rows(tmp_path), strict=True):
        assert first.keys() == second.keys()
        # A rank's accuracy is of what it sees, which is not always all.
        for name in first.keys() - {"clips_per_second", "waiting", "accuracy"}:
            assert second[name] == pytest.approx(first[name], abs=1e-4), (name, first, second)
    one, two = state(one), state(tmp_path)
    assert one.keys() == two.keys()
    for name in one:
        atol = OF_EXPONENTIALS.get(name, 1e-3)
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=atol, msg=name)
