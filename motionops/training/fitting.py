"""The steps of a run, to the last one or to a signal; what is changed for them is afterwards as it was."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import torch

from motionops.ranks import is_first
from motionops.training.checkpoint import LastCheckpoint
from motionops.training.compiling import compiled, right_convolutions
from motionops.training.config import TrainConfig
from motionops.training.data.ending import end_workers
from motionops.training.data.first_process import telling_children
from motionops.training.data.loading import PlannedData, hanging_reads_named, say_if_doubtful, warn_in_lines
from motionops.training.data.manifest import MANIFEST
from motionops.training.lightning_quirks import loggers, make_trainer, quiet_lightning
from motionops.training.method import Method
from motionops.training.watch.callbacks import watching
from motionops.video import VideoDataset


def fit(
    config: TrainConfig,
    module: Method,
    dataset: VideoDataset,
    videos: str,
    processes: tuple[int, int],
    measure: Callable[[Method, int], dict[str, float]] | None,
) -> None:
    """Do the steps that a module has still to do; there is one at least.

    Args:
        videos: their fingerprint.
        processes: on a machine, and machines.
        measure: what --monitor calls, with the module and the epochs that are done.

    Raises:
        Interrupted: a signal ended the run.
    """
    first_rank = is_first()
    every, minutes = config.checkpoint_every, 0.0
    if not every:
        every, minutes = module.steps_per_epoch, config.checkpoint_minutes
    saving = LastCheckpoint(config.output, every, minutes)
    saving.install()
    try:
        with quiet_lightning(), contextlib.ExitStack() as changed:
            warn_in_lines()
            run_loggers = loggers(config, module.step) if first_rank else False
            trainer = make_trainer(config, *processes, run_loggers, watching(config, saving, measure))
            if config.precision == "bf16-mixed" and not torch.cuda.is_available():
                changed.enter_context(right_convolutions(module, tell=first_rank))
            if config.compile:
                changed.enter_context(compiled(module, math.prod(processes)))
            changed.enter_context(hanging_reads_named(config.read_minutes))
            if first_rank:
                changed.enter_context(telling_children(config.output / MANIFEST))
            trainer.fit(module, datamodule=PlannedData(config, module, dataset, videos))
    finally:
        saving.restore()
        end_workers()
        saving.end()
    if first_rank:
        say_if_doubtful()
