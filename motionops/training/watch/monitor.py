"""What a run has learnt so far, measured every few epochs: scores into metrics.csv and TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from torch import distributed

from motionops.ranks import world
from motionops.training.lightning import Callback

# Measuring a large set outlasts what a process group waits by default. A first process that dies is noticed at once.
LONGEST = timedelta(days=7)

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
        self._meeting: distributed.ProcessGroup | None = None

    def on_train_start(self, trainer, module) -> None:
        if world()[1] > 1:
            self._meeting = distributed.new_group(backend="gloo", timeout=LONGEST)

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
        if self._meeting is not None:
            distributed.barrier(group=self._meeting)
