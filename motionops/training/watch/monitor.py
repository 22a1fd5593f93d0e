"""What a run has learnt so far, measured every few epochs: scores into metrics.csv and TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from motionops.training.lightning import Callback

Measure = Callable[[Any, int], dict[str, float]]  # of the module, after so many epochs


class Monitor(Callback):
    """Measures the module when every n-th epoch is done, on the first process; the others wait for it.

    Nothing that is random in the run moves: each step seeds what it draws.

    Args:
        epochs: n.
        measure: gives scores by name; the module is in training mode before and after it.
    """

    def __init__(self, epochs: int, measure: Measure) -> None:
        self.epochs, self.measure = epochs, measure

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        done = module.step // module.steps_per_epoch
        if not module.between_steps or module.step % (self.epochs * module.steps_per_epoch):
            return
        if trainer.is_global_zero:
            modes = {each: each.training for each in module.modules()}
            scores = self.measure(module, done)
            for each, training in modes.items():
                each.training = training
            for logger in trainer.loggers:
                logger.log_metrics(scores, step=module.step)
