"""last.ckpt: written whole or not at all, at every epoch, at the end, and when the run is told to stop."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import torch

from motionops.errors import UserError
from motionops.learning.distributed import any_rank
from motionops.learning.lightning import Callback, TorchCheckpointIO

NAME = "last.ckpt"
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(Exception):
    """The run was told to stop, and last.ckpt holds all that it did; `.signal` is the signal's number."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"{signal.Signals(number).name} at step {step}")
        self.signal, self.step = number, step


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, forces it to the disk and renames it: a cut leaves the former one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        path = Path(path)
        beside = path.with_name(f".{path.name}.partial")
        try:
            with open(beside, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException as error:
            beside.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(path)  # a full disk does not say which file was too much for it
            raise
        # The rename itself is on the disk only when the folder is.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read last.ckpt; UserError where it is no checkpoint of a trainer."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["motionops"], checkpoint["state_dict"], checkpoint["optimizer_states"]
    except OSError as error:
        raise UserError(f"--resume: {path}: {error.strerror or error}") from error
    except Exception as error:
        raise UserError(f"--resume: {path} is not a checkpoint of a motionops trainer") from error
    return checkpoint


class LastCheckpoint(Callback):
    """Writes last.ckpt every `every` steps, and at once when SIGTERM or SIGINT arrives, which then ends the run.

    A signal only sets a flag: the step that is under way is finished and saved with the rest. A second signal acts as
    it would without this class. `module.step` is the number of steps done.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.path, self.every = folder / NAME, every
        self.received: int | None = None
        self._former: dict[int, Any] = {}

    def install(self) -> None:
        """Take over the signals (main thread only; elsewhere they stay as they are)."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            former = signal.signal(number, self._handle)
            self._former.setdefault(number, former)

    def restore(self) -> None:
        """Give the signals back."""
        if threading.current_thread() is threading.main_thread():
            for number, former in self._former.items():
                signal.signal(number, former)
            self._former.clear()

    def _handle(self, number: int, _frame: Any) -> None:
        self.received = number
        self.restore()

    def on_train_start(self, trainer, module) -> None:
        # Again: Lightning has put its own handler of SIGTERM in front, which would let the run go on to its last step.
        if self.received is None:
            self.install()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if not module.between_steps:
            return
        stop = any_rank(self.received is not None)
        if stop or (module.step % self.every == 0 and module.step < module.total_steps):
            module.require_finite(outputs["loss"])
            trainer.save_checkpoint(self.path)
        if stop:
            raise Interrupted(self.received or signal.SIGTERM, module.step)

    def on_train_end(self, trainer, module) -> None:
        trainer.save_checkpoint(self.path)
