"""--precision bf16-mixed: the first loss and its gradients are float32's, as far as bfloat16 goes."""

import contextlib
import math

import pytest
import torch

from motionops.errors import UserError
from motionops.models.bfloat16_convolutions import _wrong_lengths
from motionops.training import compiling, fitting
from motionops.training.lightning import Callback
from tests.methods.tiny import NAMES, tiny, trained
from tests.models.wrong_bfloat16 import plant
from tests.runs.runs import logged

# Half the distance from a number near 1 to the next one: 8 bits, the first of which is always 1.
ROUNDING = 2.0**-8

# Cosine of float32's and a right gradient: those here are from 0.82, of 16 BatchNorm weights, to 1. A convolution of
# two independent frames that meets the wrong ones shares 2 of 3 and 4 parts with the right one: 2 / sqrt(12) = 0.58.
ALIKE = 0.75
# At a temperature of 0.1 MoCo's loss is 0.014 here, and what is left of its gradient as large as its rounding.
FLAGS = {"moco": {"temperature": 0.5}}


@pytest.fixture(autouse=True)
def asked_anew(tmp_path, monkeypatch):
    """What a processor with a planted fault answers is not for the others."""
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    _wrong_lengths.cache_clear()
    yield
    _wrong_lengths.cache_clear()


@pytest.fixture
def first_step(shapes, tmp_path, monkeypatch):
    """Runs one step of a method: `first_step(method, precision)` -> (configuration, loss, gradients by name)."""
    make_trainer, gradients = fitting.make_trainer, {}

    class Keep(Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            named = module.named_parameters()
            gradients.update({name: x.grad.clone() for name, x in named if x.grad is not None})

    def with_keep(config, devices, nodes, loggers, callbacks):
        return make_trainer(config, devices, nodes, loggers, [*callbacks, Keep()])

    monkeypatch.setattr(fitting, "make_trainer", with_keep)

    def run(method, precision):
        gradients.clear()
        flags = {"max_steps": 1, "precision": precision, "overwrite": True, **FLAGS.get(method, {})}
        config = tiny(method, shapes, tmp_path / precision, **flags)
        trained(method, config)
        (row,) = logged(config.output, ("loss",))
        return config, float(row["loss"]), dict(gradients)

    return run


def turned(exact, rounded):
    """The names of gradients that point elsewhere; a gradient that is 0 but for float32's rounding points nowhere."""
    assert exact.keys() == rounded.keys()
    large = max(x.norm() for x in exact.values())
    return {
        name
        for name, x in exact.items()
        if x.norm() > 1e-6 * large and not torch.cosine_similarity(x.ravel(), rounded[name].ravel(), dim=0) >= ALIKE
    }


@pytest.mark.parametrize("method", NAMES)
def test_the_first_step(first_step, method):
    """The losses are 1.2 (MCL) to 13 (MoDist) here, and differ by 0.003 to 0.01.

    A loss goes with its logits, whatever its size: a change of all of them by at most d moves a cross-entropy by at
    most 2 d. They are products of unit vectors over the temperature. That of two vectors which came out of rounded
    layers is off by about a rounding, as the errors of single components have either sign.
    """
    (config, exact, gradients), (_, rounded, others) = (first_step(method, each) for each in ("32", "bf16-mixed"))
    assert rounded != exact  # the networks' arithmetic is another
    assert rounded == pytest.approx(exact, abs=ROUNDING / config.temperature)
    assert rounded != float(torch.tensor(rounded).bfloat16())  # the loss itself is float32
    assert not turned(gradients, others)
    assert any(not torch.equal(x, others[name]) for name, x in gradients.items())


@pytest.mark.parametrize("behind", [0.0, math.nan])
def test_a_processor_that_computes_two_frames_wrongly(first_step, monkeypatch, capsys, behind):
    """MoDist's 4 frames are 2 where layer2 has stride 1. What is wrong there runs in float32, and a line says so."""
    _, _, exact = first_step("modist", "32")
    assert "float32" not in capsys.readouterr().err
    plant(monkeypatch, behind)
    _, _, mended = first_step("modist", "bf16-mixed")
    assert not turned(exact, mended)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "float32" in line)
    assert line.startswith("--precision bf16-mixed: convolutions run in float32 where they get 2 frames; ")

    monkeypatch.setattr(compiling, "float32_where_wrong", lambda network: contextlib.nullcontext({}))
    if math.isnan(behind):
        with pytest.raises(UserError, match=r"step 1: the gradient of visual\.backbone\.layer2\.conv2\.0\.weight and"):
            first_step("modist", "bf16-mixed")
    else:
        _, _, wrong = first_step("modist", "bf16-mixed")
        # The two frames of the motion backbone may be nearly the same.
        visual, motion = (f"{pathway}.backbone.layer2.conv2.0.weight" for pathway in ("visual", "motion"))
        assert {visual} <= turned(exact, wrong) <= {visual, motion}
