"""--precision bf16-mixed: the first loss is float32's, as far as bfloat16 goes."""

import pytest
import torch

from tests.trainers.methods import METHODS, small_run
from tests.trainers.runs import logged

# Half the distance from a number near 1 to the next one: 8 bits, the first of which is always 1.
ROUNDING = 2.0**-8


def first_loss(folder):
    (row,) = logged(folder, ("loss",))
    return float(row["loss"])


@pytest.mark.parametrize("method", METHODS)
def test_the_first_loss(shapes, tmp_path, monkeypatch, method):
    """The losses are 1.2 (MCL) to 13 (MoDist) here, and differ by 0.003 to 0.01.

    A loss goes with its logits, whatever its size: a change of all of them by at most d moves a cross-entropy by at
    most 2 d. They are products of unit vectors over the temperature. That of two vectors which came out of rounded
    layers is off by about a rounding, as the errors of single components have either sign.
    """
    monkeypatch.setenv("MOTIONOPS_CACHE", str(tmp_path / "cache"))
    losses = {}
    for precision in ("32", "bf16-mixed"):
        trainer, config = small_run(method, shapes, tmp_path / precision, max_steps=1, precision=precision)
        assert trainer.main(config) == 0
        losses[precision] = first_loss(config.output)
    exact, rounded = losses["32"], losses["bf16-mixed"]
    assert rounded != exact  # the networks' arithmetic is another
    assert rounded == pytest.approx(exact, abs=ROUNDING / config.temperature)
    assert rounded != float(torch.tensor(rounded).bfloat16())  # the loss itself is float32
