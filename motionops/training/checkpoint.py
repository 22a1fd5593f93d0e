"""last.ckpt: written whole or not at all, beside the steps; the end of a run, however it comes, waits for it."""

from __future__ import annotations

import os
import signal
import sys
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
from motionops.files import damage
from motionops.ranks import host_numbers, world
from motionops.training.data.ending import end_workers, minding_no_lost_peers
from motionops.training.lightning import Callback, TorchCheckpointIO
from motionops.training.state.snapshot import Snapshot

NAME, PREVIOUS = "last.ckpt", "previous.ckpt"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
# What a rank tells the others after a step: it was told to stop; --checkpoint-minutes have passed.
STOP, LATE = 1, 2
# Seconds that a batch still has to come in when a signal arrives in the middle of a step, or there are other ranks:
# with it last.ckpt is written. A batch system kills after 30.
PATIENCE = 15.0


class Interrupted(BaseException):
    """The run was told to stop; `.signal` is the signal's number, and where `.saved`, last.ckpt holds all it did.

    No Exception: a signal may come anywhere, and a library that answers every Exception of its own (DataLoader, by
    readers that it says have died) would put another in its place.
    """

    def __init__(self, number: int, step: int, saved: bool = True) -> None:
        super().__init__(f"{signal.Signals(number).name} at step {step}")
        self.signal, self.step, self.saved = number, step, saved


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, forces it to the disk and renames it: a cut leaves the former one.

    The former one is kept as previous.ckpt, for a disk that does not keep what it was given.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        path = Path(path)
        beside = path.with_name(f".{path.name}.partial")
        try:
            with open(beside, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            _keep(path)
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


def _keep(path: Path) -> None:
    """Give a file that is about to be replaced its second name; at no time is it without one."""
    if not path.exists():
        return
    beside, previous = path.with_name(f".{PREVIOUS}.partial"), path.with_name(PREVIOUS)
    try:
        beside.unlink(missing_ok=True)
        os.link(path, beside)
        os.replace(beside, previous)
    except OSError:  # a file system without links
        os.replace(path, previous)


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
    """Read last.ckpt; UserError where it is damaged, or no checkpoint of a trainer. Offers the one before, if whole."""
    try:
        wrong = damage(path)
        if wrong is None:
            return _trainers(path)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"--resume: {path}: {error.strerror}{_offer(path)}") from error
    except Exception as error:
        raise UserError(f"--resume: {path} is not a checkpoint of a motionops trainer{_offer(path)}") from error
    raise UserError(f"--resume: {path} is damaged ({wrong}){_offer(path)}")


def _trainers(path: Path) -> dict[str, Any]:
    """A checkpoint that a trainer wrote; some error where it is none."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    checkpoint["state_dict"].items(), checkpoint["optimizer_states"][0].items()
    note = checkpoint["motionops"]
    note["config"].items(), note["videos"], int(note["step"])
    return checkpoint


def _offer(path: Path) -> str:
    """What to do with a checkpoint that is kept beside one that cannot be read."""
    previous = path.with_name(PREVIOUS)
    try:
        if previous != path and damage(previous) is None:
            step = _trainers(previous)["motionops"]["step"]
            return f"; the one before it, of step {step}, is whole: mv {previous} {path}"
    except Exception:
        pass
    return ""


class LastCheckpoint(Callback):
    """Writes last.ckpt every `every` steps, and at once when SIGTERM or SIGINT arrives, which then ends the run.

    A step that is under way is finished and saved with the rest. While the run waits for a batch, which may never come,
    one process saves and ends at once; the others, or the middle of a step, cannot be saved, and are given PATIENCE. A
    second signal acts as it would without this class. `module.step` is the number of steps done.

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
        self._waits: Callable[[], None] | None = None  # while the next batch is not there: ends the run
        self._former_hook: Callable[..., Any] | None = None  # of errors that nobody caught

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

    def end(self) -> None:
        """What was changed for the run is as it was; called when its readers are gone."""
        self.restore()
        if self._former_hook is not None:
            sys.excepthook, self._former_hook = self._former_hook, None

    def _handle(self, number: int, _frame: Any) -> None:
        self.received = number
        self.restore()
        if self._waits is not None:
            self._waits()

    def on_train_start(self, trainer, module) -> None:
        self._saved = time.monotonic()
        # Again: Lightning has put its own handler of SIGTERM in front, which would let the run go on to its last step.
        if self.received is None:
            self.install()
        self._wait(trainer, module, None)

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self._waits = None
        if signal.SIGALRM in self._former:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.restore()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        writer = trainer.strategy.checkpoint_io
        writer.raise_error()
        if module.between_steps:
            late = 0 < self.minutes * 60 <= time.monotonic() - self._saved and not writer.writing
            told = host_numbers(STOP * (self.received is not None) + LATE * late)
            stop, late = any(number & STOP for number in told), told[0] & LATE  # the first rank writes
            if stop:
                self._stop(trainer, module, outputs["loss"])
            if (late or module.step % self.every == 0) and module.step < module.total_steps:
                module.require_finite(outputs["loss"])
                trainer.save_checkpoint(self.path)
                self._saved = time.monotonic()
        self._wait(trainer, module, outputs["loss"])

    def on_train_end(self, trainer, module) -> None:
        self._waits = None
        trainer.save_checkpoint(self.path)
        self._finish(trainer)

    def _wait(self, trainer, module, loss) -> None:
        """From now on a signal ends the run though no batch comes; so does one that is there already."""
        alone = world()[1] == 1 and module.between_steps
        self._waits = (lambda: self._stop(trainer, module, loss)) if alone else (lambda: self._lose_patience(module))
        if self.received is not None:
            self._waits()

    def _lose_patience(self, module) -> None:
        """End the run in a while, without another last.ckpt, if no batch has come by then."""

        def give_up(*_: Any) -> None:
            raise Interrupted(self.received, module.step, saved=False)

        self._former[signal.SIGALRM] = signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)

    def _stop(self, trainer, module, loss) -> None:
        """Save what is done, and end the run; `loss` is that of its last step, if there was one."""
        if loss is not None:
            module.require_finite(loss)
        trainer.save_checkpoint(self.path)
        self._finish(trainer)
        self._former_hook, sys.excepthook = sys.excepthook, minding_no_lost_peers(sys.excepthook)
        raise Interrupted(self.received or signal.SIGTERM, module.step)

    def _finish(self, trainer) -> None:
        trainer.strategy.checkpoint_io.wait()
        # A rank that ended before the first one has written would have torchrun end that one too.
        trainer.strategy.barrier()

    def on_exception(self, trainer, module, exception) -> None:
        if isinstance(exception, Interrupted):
            end_workers()  # DataLoader would wait 5 seconds for each of those that read what does not come
        try:
            trainer.strategy.checkpoint_io.wait()
        except Exception as error:  # the run ends with the error that came first
            warn(f"last.ckpt was not written: {user_message(error) or error}")
