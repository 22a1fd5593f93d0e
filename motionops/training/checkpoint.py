"""last.ckpt: written whole or not at all, beside the steps; the end of a run, however it comes, waits for it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

import torch

from motionops.commandline import user_message, warn
from motionops.errors import UserError
from motionops.ranks import host_numbers
from motionops.training.lightning import Callback, TorchCheckpointIO
from motionops.training.snapshot import Snapshot

NAME = "last.ckpt"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
# What a rank tells the others after a step: it was told to stop; --checkpoint-minutes have passed.
STOP, LATE = 1, 2


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


class BackgroundCheckpointIO(AtomicCheckpointIO):
    """Copies a checkpoint at once and writes it in a thread, one at a time: a save waits for the former one.

    Lightning's AsyncCheckpointIO keeps its copies on the device, any number of them, and tells of a full disk at the
    next save.
    """

    def __init__(self) -> None:
        super().__init__()
        self._snapshot = Snapshot()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")  # the interpreter's end waits for it
        self._writing: Future | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        self.wait()
        taken, copied = self._snapshot.take(checkpoint)
        self._writing = self._thread.submit(self._write, taken, copied, path)

    def _write(self, taken: dict[str, Any], copied: Callable[[], None], path: str | os.PathLike) -> None:
        copied()
        super().save_checkpoint(taken, path)

    @property
    def writing(self) -> bool:
        return self._writing is not None and not self._writing.done()

    def raise_error(self) -> None:
        """Raise the error that the writer has met, if it has; do not wait."""
        if not self.writing:
            self.wait()

    def wait(self) -> None:
        """Wait until the file is whole on the disk, or raise the error that prevented it."""
        if self._writing is not None:
            wait_for([self._writing])
            done, self._writing = self._writing, None
            done.result()

    def teardown(self) -> None:
        if self.writing:
            wait_for([self._writing])
        self._snapshot = Snapshot()  # gives its memory back


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

    Args:
        folder: gets last.ckpt.
        every: steps from one to the next.
        minutes: where so many have passed since the last one, another is written, once that one is on the disk; 0:
            none is.
    """

    def __init__(self, folder: Path, every: int, minutes: float = 0) -> None:
        self.path, self.every, self.minutes = folder / NAME, every, minutes
        self.received: int | None = None
        self._former: dict[int, Any] = {}
        self._saved = time.monotonic()

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
        self._saved = time.monotonic()
        # Again: Lightning has put its own handler of SIGTERM in front, which would let the run go on to its last step.
        if self.received is None:
            self.install()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        writer = trainer.strategy.checkpoint_io
        writer.raise_error()
        if not module.between_steps:
            return
        late = 0 < self.minutes * 60 <= time.monotonic() - self._saved and not writer.writing
        told = host_numbers(STOP * (self.received is not None) + LATE * late)
        stop, late = any(number & STOP for number in told), told[0] & LATE  # the first rank writes
        due = (late or module.step % self.every == 0) and module.step < module.total_steps
        if stop or due:
            module.require_finite(outputs["loss"])
            trainer.save_checkpoint(self.path)
            self._saved = time.monotonic()
        if stop:
            self._finish(trainer)
            raise Interrupted(self.received or signal.SIGTERM, module.step)

    def on_train_end(self, trainer, module) -> None:
        trainer.save_checkpoint(self.path)
        self._finish(trainer)

    def _finish(self, trainer) -> None:
        trainer.strategy.checkpoint_io.wait()
        # A rank that ended before the first one has written would have torchrun end that one too.
        trainer.strategy.barrier()

    def on_exception(self, trainer, module, exception) -> None:
        try:
            trainer.strategy.checkpoint_io.wait()
        except Exception as error:  # the run ends with the error that came first
            warn(f"last.ckpt was not written: {user_message(error) or error}")
