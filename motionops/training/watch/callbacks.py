"""What watches a run's steps, in the order in which it is told of them."""

from __future__ import annotations

from collections.abc import Callable

from motionops.commandline import say
from motionops.ranks import is_first
from motionops.training.config import TrainConfig
from motionops.training.lightning import Callback
from motionops.training.method import FinishStep, Method
from motionops.training.run_folder import REPORT, plain
from motionops.training.watch.monitor import Monitor
from motionops.training.watch.profiling import StepProfile
from motionops.training.watch.progress import TrainingBar


def watching(
    config: TrainConfig, saving: Callback, measure: Callable[[Method, int], dict[str, float]] | None
) -> list[Callback]:
    """The callbacks of a run; `saving` writes its checkpoints, `measure` is what --monitor calls."""
    monitor = [Monitor(config.monitor, measure)] if config.monitor else []
    callbacks = [FinishStep(), *monitor, TrainingBar(), saving]
    if config.profile and is_first():
        profiled = StepProfile(config.profile, config.output / REPORT, plain(config), say)
        callbacks = [profiled, *callbacks, profiled.last]
    return callbacks
