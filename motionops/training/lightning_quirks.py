"""What a run argues about with Lightning, in one room, each with its reason."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from inspect import signature
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from motionops.training.checkpoint import BackgroundCheckpointIO
from motionops.training.config import TrainConfig
from motionops.training.lightning import DDPStrategy, TensorBoardLogger, Trainer
from motionops.training.run_folder import METRICS_CSV, TENSORBOARD, MetricsFile, plain

# DDP's argument; torch 2.13 deprecates the former name.
BUFFERS_BEFORE_FORWARD = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in signature(DistributedDataParallel).parameters
)


def make_trainer(config: TrainConfig, devices: int, nodes: int, run_loggers: Any, callbacks: list) -> Trainer:
    """Lightning's trainer, told to do the loop, the devices and the precision, and nothing that is done elsewhere."""
    trainer = Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=devices,
        num_nodes=nodes,
        # Queues are equal on all ranks as it is, and it is rank 0's BatchNorm that is saved: nothing to broadcast.
        strategy=DDPStrategy(**{BUFFERS_BEFORE_FORWARD: False}) if devices * nodes > 1 else "auto",
        precision={"32": "32-true", "bf16-mixed": "bf16-mixed"}[config.precision],
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.clip_gradient or None,
        # One pass over a plan of all steps: workers live through the epochs, and the position in the data is the step.
        max_epochs=1,
        logger=run_loggers,
        callbacks=callbacks,
        plugins=[BackgroundCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=config.output,
    )
    # Lightning asks the ranks for a SIGTERM before each batch, by their devices; LastCheckpoint asks their hosts.
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None
    return trainer


def loggers(config: TrainConfig, first_step: int) -> list:
    """Those that --logger names; a resumed run drops what was logged behind the step that it continues from."""
    purge = {"purge_step": first_step + 1} if first_step else {}
    made: list = []
    if "csv" in config.logger:
        made.append(MetricsFile(config.output / METRICS_CSV, first_step))
    if "tensorboard" in config.logger:
        board = TensorBoardLogger(config.output, name="", version=TENSORBOARD, default_hp_metric=False, **purge)
        show_flags(board, plain(config))
        made.append(board)
    return made


def show_flags(board: TensorBoardLogger, flags: dict[str, Any]) -> None:
    """The flags in TensorBoard's table of runs, beside the loss, and in hparams.yaml, which is else written empty."""
    from torch.utils.tensorboard.summary import hparams

    board.log_hyperparams(flags)
    shown = {name: value if isinstance(value, (bool, int, float, str)) else str(value) for name, value in flags.items()}
    for summary in hparams(shown, {"loss": 0.0}):  # names the column; no value is logged
        board.experiment.file_writer.add_summary(summary)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's notes on devices and tips, which say nothing that the user asked."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        unasked = (
            "does not have many workers",
            "is smaller than the logging interval",
            "isinstance.treespec",
            "You have overridden `on_before_batch_transfer`",  # in the module, as it is meant
        )
        # A frozen backbone's BatchNorm is meant to be in eval mode.
        # On the CPU alone: gradients of 1 x 1 x 1 convolutions do not have the weights' channels_last_3d strides there.
        strides = () if torch.cuda.is_available() else ("Grad strides do not match bucket view strides",)
        for text in (*unasked, *strides, "in eval mode at the start of training"):
            warnings.filterwarnings("ignore", message=f".*{text}.*")
        try:
            yield
        finally:
            log.setLevel(level)
