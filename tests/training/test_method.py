"""What a module keeps in last.ckpt beside its networks; what is random in a step; how its parts are put together."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

pytest.importorskip("lightning")
from motionops.errors import UserError
from motionops.training import method
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


def states(*generators):
    return {tuple(generator.get_state().tolist()) for generator in generators}


def test_what_all_ranks_draw_depends_on_seed_step_part_and_key():
    made, other = module(seed=3), module(seed=4)
    first = [made.shared_generator(0), made.shared_generator(1), made.shared_generator(1, 1)]
    made.step = 1
    second = [made.shared_generator(1), other.shared_generator(1)]
    made.part = 1
    assert len(states(*first, *second, made.shared_generator(1))) == 6
    again = module(seed=3)
    again.step = again.part = 1
    assert states(again.shared_generator(1)) == states(made.shared_generator(1))


def test_a_rank_draws_for_itself_in_every_step_and_part(monkeypatch):
    made = module(accumulate=2)
    made.optimizers = lambda: SimpleNamespace(param_groups=[])

    def drawn(rank, step, batch):
        monkeypatch.setattr(method, "world", lambda: (rank, 2))
        made.step = step
        made.on_train_batch_start(made_batch(), batch)
        return torch.rand(4).tolist()

    cases = [(0, 0, 0), (1, 0, 0), (0, 1, 2), (1, 1, 2), (0, 0, 1), (0, 1, 3)]
    found = [drawn(*case) for case in cases]
    assert len({tuple(numbers) for numbers in found}) == len(cases)
    assert [drawn(*case) for case in cases] == found


def test_the_parts_of_a_step_add_up_to_its_loss_and_average_the_rest(monkeypatch):
    """Lightning has divided each part's loss by their number."""
    made, done = module(accumulate=2), []
    monkeypatch.setattr(made, "finish_step", done.append)
    made.finish_part({"loss": torch.tensor(0.25), "accuracy": torch.tensor(0.5), "rank": torch.tensor(2)})
    assert not made.between_steps
    made.finish_part({"loss": torch.tensor(0.5), "accuracy": torch.tensor(0.25), "rank": torch.tensor(5)})
    assert made.between_steps
    assert [{name: value.item() for name, value in outputs.items()} for outputs in done] == [
        {"loss": 0.75, "accuracy": 0.375, "rank": 3.5}
    ]
