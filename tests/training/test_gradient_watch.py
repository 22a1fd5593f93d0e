"""Gradients that are not finite end a run, and are named."""

import math

import pytest
import torch
from torch import nn

pytest.importorskip("lightning")
from motionops.errors import UserError
from motionops.training.config import TrainConfig
from motionops.training.method import Method
from motionops.training.watch.gradient_watch import MOST_NOTED, GradientWatch


def network(**lost):
    """Two layers with gradients of ones but those named, which have one element of another value."""
    made = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    for name, parameter in made.named_parameters():
        parameter.grad = torch.ones_like(parameter)
        parameter.grad.view(-1)[-1] = lost.get(name.replace(".", "_").replace("0", "first").replace("1", "second"), 1.0)
    return made


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e26])
def test_one_element_is_enough(value):
    """The square of 1e26 is no float32: AdamW's second moment would be infinite."""
    watch = GradientWatch()
    watch.note(1, network().named_parameters(), at_once=True)
    with pytest.raises(UserError, match=r"^step 2: the gradient of 1\.bias of 4 parameters is not finite; last\.ckpt"):
        watch.note(2, network(second_bias=value).named_parameters(), at_once=True)


def test_several_are_counted_and_the_first_is_named():
    lost = dict.fromkeys(("first_bias", "second_weight", "second_bias"), math.nan)
    with pytest.raises(UserError, match=r"the gradient of 0\.bias and of 2 more of 4 parameters is not finite"):
        GradientWatch().note(1, network(**lost).named_parameters(), at_once=True)


def test_large_gradients_and_none_are_no_error():
    made = network(first_bias=1e18)
    made[1].weight.grad = None
    GradientWatch().note(1, made.named_parameters(), at_once=True)
    made.zero_grad()
    GradientWatch().note(1, made.named_parameters(), at_once=True)


def test_what_is_noted_is_said_when_somebody_asks():
    """As on a GPU, which is waited for where a loss is logged and before last.ckpt is written."""
    watch = GradientWatch()
    for step in range(1, 4):
        lost = {"first_bias": math.inf} if step == 2 else {"second_bias": math.nan} if step == 3 else {}
        watch.note(step, network(**lost).named_parameters(), at_once=False)
    with pytest.raises(UserError, match=r"^step 2: the gradient of 0\.bias of 4 parameters"):
        watch.require_finite()
    watch.require_finite()


def test_a_run_that_never_asks_is_told():
    watch, lost = GradientWatch(), network(first_bias=math.nan)
    for step in range(1, MOST_NOTED):
        watch.note(step, lost.named_parameters(), at_once=False)
    with pytest.raises(UserError, match=r"^step 1: "):
        watch.note(MOST_NOTED, lost.named_parameters(), at_once=False)


def test_a_module_asks_before_its_update_and_with_its_loss():
    made = Method(TrainConfig())
    made.network, made.step = network(first_weight=math.nan), 6
    with pytest.raises(UserError, match=r"^step 7: the gradient of network\.0\.weight of 4"):
        made.on_before_optimizer_step(None)
    made._gradients.note(8, made.named_parameters(), at_once=False)
    with pytest.raises(UserError, match=r"^step 8: "):
        made.require_finite(torch.tensor(1.0))
