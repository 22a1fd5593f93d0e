"""Checkpoints that are whole or not there, written beside the steps, and when they are written."""

import errno
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from motionops.commandline import user_message
from motionops.errors import UserError
from motionops.training import checkpoint
from motionops.training.checkpoint import (
    AtomicCheckpointIO,
    BackgroundCheckpointIO,
    Interrupted,
    LastCheckpoint,
    read_checkpoint,
)
from tests.several_ranks import on_ranks

# Seconds for which a thread that must wait is watched; one that would not wait is through in a thousandth of it.
WATCHED = 0.2


@pytest.fixture
def disk(monkeypatch):
    """A disk that takes nothing until `disk.free` is set; `disk.writing` is set when a file is begun."""
    gate, save = SimpleNamespace(free=threading.Event(), writing=threading.Event()), torch.save

    def later(value, file):
        file.write(b"half")
        gate.writing.set()
        assert gate.free.wait(60)
        file.seek(0)
        save(value, file)

    monkeypatch.setattr(torch, "save", later)
    yield gate
    gate.free.set()


@pytest.fixture
def full_disk(monkeypatch):
    def cut(value, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", cut)


def test_a_cut_while_writing_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"value": 1}, path)
    before = path.read_bytes()

    def cut(checkpoint, file):
        file.write(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises(OSError, match="No space left") as caught:
        AtomicCheckpointIO().save_checkpoint({"value": 2}, path)
    assert user_message(caught.value) == f"{path}: No space left on device"
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_is_no_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"half")
    with pytest.raises(UserError, match=r"--resume: .*last.ckpt is not a checkpoint of a motionops trainer"):
        read_checkpoint(path)
    torch.save({"something": 1}, path)
    with pytest.raises(UserError, match="is not a checkpoint"):
        read_checkpoint(path)


def whole(step):
    note = {"config": {}, "videos": "3 videos", "step": step}
    return {"state_dict": {"w": torch.rand(5000)}, "optimizer_states": [{"state": {}}], "motionops": note}


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("damaged", [["last.ckpt"], ["last.ckpt", "previous.ckpt"]], ids=len)
def test_one_flipped_bit_is_found_and_the_checkpoint_before_is_offered(tmp_path, place, damaged):
    path, writer = tmp_path / "last.ckpt", AtomicCheckpointIO()
    for step in (3, 6):
        writer.save_checkpoint(whole(step), path)
    assert read_checkpoint(path)["motionops"]["step"] == 6
    for name in damaged:
        held = bytearray((tmp_path / name).read_bytes())
        held[int(place * 20000) + held.index(b"data/0") + 64] ^= 1  # within the 20000 bytes of the weights
        (tmp_path / name).write_bytes(held)
    torch.load(path, weights_only=True)  # torch sees nothing
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    offered = f"; the one before it, of step 3, is whole: mv {tmp_path / 'previous.ckpt'} {path}"
    offered = offered if len(damaged) == 1 else ""
    assert str(error.value) == f"--resume: {path} is damaged (the check sum of archive/data/0 is another one){offered}"


@pytest.mark.parametrize("times", [50, pytest.param(10_000, marks=pytest.mark.slow)])
def test_bits_that_flip_anywhere_make_no_other_checkpoint(tmp_path, times):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(whole(6), path)
    expected, held, random = read_checkpoint(path), path.read_bytes(), np.random.default_rng(times)
    refused = []
    for bit in random.integers(0, 8 * len(held), times):
        spoiled = bytearray(held)
        spoiled[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoiled)
        try:
            found = read_checkpoint(path)
        except UserError as error:
            refused.append(str(error))
        else:  # padding, times and names of the archive's own
            assert torch.equal(found["state_dict"]["w"], expected["state_dict"]["w"])
            assert found["motionops"] == expected["motionops"]
    assert len(refused) > times // 2
    assert all(line.startswith("--resume: ") and "\n" not in line for line in refused)


def test_a_cut_file_or_a_lost_one_is_offered_the_one_before_too(tmp_path):
    path = tmp_path / "last.ckpt"
    for step in (3, 6):
        AtomicCheckpointIO().save_checkpoint(whole(step), path)
    path.write_bytes(path.read_bytes()[:9000])
    for why in ("is not a checkpoint", "No such file"):
        with pytest.raises(UserError, match=f"{why}.*; the one before it, of step 3, is whole: mv "):
            read_checkpoint(path)
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("part", "value"),
    [("state_dict", []), ("optimizer_states", {}), ("motionops", "x"), ("motionops", {"config": [], "step": 3})],
)
def test_an_odd_note_is_no_checkpoint(tmp_path, part, value):
    torch.save({**whole(3), part: value}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="is not a checkpoint of a motionops trainer"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_where_there_are_no_links_the_former_one_is_kept_by_its_name(tmp_path, monkeypatch):
    def unsupported(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", unsupported)
    for step in (3, 6):
        AtomicCheckpointIO().save_checkpoint(whole(step), tmp_path / "last.ckpt")
    steps = [read_checkpoint(tmp_path / name)["motionops"]["step"] for name in ("previous.ckpt", "last.ckpt")]
    assert steps == [3, 6]


def test_a_checkpoint_is_of_the_moment_at_which_it_was_saved(tmp_path, disk):
    path, weight, queue = tmp_path / "last.ckpt", torch.ones(3), torch.arange(4)
    optimizer = torch.optim.AdamW([weight.requires_grad_()])
    weight.grad = torch.ones(3)
    optimizer.step()
    value = {"state_dict": {"w": weight.detach(), "queue": queue}, "optimizer_states": [optimizer.state_dict()]}
    value["step"] = [7]
    expected = [weight.detach().clone(), queue.clone(), optimizer.state[weight]["exp_avg"].clone()]
    writer = BackgroundCheckpointIO()
    writer.save_checkpoint(value, path)
    assert disk.writing.wait(60)
    assert writer.writing
    writer.raise_error()  # does not wait
    optimizer.step()  # beside the writing
    queue.zero_()
    value["step"][0] = 8
    disk.free.set()
    writer.wait()
    assert not writer.writing
    found = torch.load(path, weights_only=True)
    state = found["optimizer_states"][0]["state"][0]
    assert all(map(torch.equal, [*found["state_dict"].values(), state["exp_avg"]], expected))
    assert state["step"] == 1
    assert found["step"] == [7]
    assert not torch.equal(weight, expected[0])


def test_a_save_waits_for_the_former_one_and_the_newer_file_stays(tmp_path, disk):
    path, writer = tmp_path / "last.ckpt", BackgroundCheckpointIO()
    writer.save_checkpoint({"value": torch.tensor(1)}, path)
    second = threading.Thread(target=writer.save_checkpoint, args=({"value": torch.tensor(2)}, path))
    second.start()
    second.join(WATCHED)
    assert second.is_alive()
    disk.free.set()
    second.join()
    writer.wait()
    assert torch.load(path, weights_only=True)["value"] == 2
    assert torch.load(path.with_name("previous.ckpt"), weights_only=True)["value"] == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]


@pytest.mark.parametrize("call", ["raise_error", "wait", "save_checkpoint"])
def test_the_writers_error_is_raised_once_in_the_thread_that_asks(tmp_path, full_disk, call):
    path, writer = tmp_path / "last.ckpt", BackgroundCheckpointIO()
    writer.save_checkpoint({"value": 1}, path)
    while writer.writing:
        time.sleep(0.001)
    with pytest.raises(OSError, match="No space left") as caught:
        getattr(writer, call)(*[{"value": 2}, path][: 2 * (call == "save_checkpoint")])
    assert user_message(caught.value) == f"{path}: No space left on device"
    writer.wait()
    writer.raise_error()


def test_the_end_of_a_training_waits_for_the_writer(tmp_path, disk):
    writer = BackgroundCheckpointIO()
    writer.save_checkpoint({"value": 1}, tmp_path / "last.ckpt")
    end = threading.Thread(target=writer.teardown)
    end.start()
    end.join(WATCHED)
    assert end.is_alive()
    disk.free.set()
    end.join()
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"value": 1}


class Run:
    """A training that asks a LastCheckpoint after each step; `clock` is its seconds, `saved` are the steps saved."""

    def __init__(self, monkeypatch, folder, every, minutes):
        self.clock, self.saved = 0.0, []
        monkeypatch.setattr(checkpoint.time, "monotonic", lambda: self.clock)
        writer = SimpleNamespace(writing=False, raise_error=lambda: None)
        self.writer, strategy = writer, SimpleNamespace(checkpoint_io=writer)
        self.trainer = SimpleNamespace(
            strategy=strategy, save_checkpoint=lambda path: self.saved.append(self.module.step)
        )
        self.module = SimpleNamespace(step=0, total_steps=100, between_steps=True, require_finite=lambda loss: None)
        self.callback = LastCheckpoint(folder, every, minutes)
        monkeypatch.setattr(self.callback, "install", lambda: None)
        self.callback.on_train_start(self.trainer, self.module)

    def steps(self, count, seconds=30.0):
        for _ in range(count):
            self.clock += seconds
            self.module.step += 1
            self.callback.on_train_batch_end(self.trainer, self.module, {"loss": torch.tensor(0.0)}, None, 0)


@pytest.mark.parametrize(
    ("minutes", "expected"), [(0.0, [7, 14]), (2.0, [4, 7, 11, 14, 18]), (2.1, [5, 7, 12, 14, 19]), (9.0, [7, 14])]
)
def test_minutes_are_counted_from_the_last_checkpoint(monkeypatch, tmp_path, minutes, expected):
    run = Run(monkeypatch, tmp_path, 7, minutes)
    run.steps(20)
    assert run.saved == expected


def test_a_late_checkpoint_does_not_wait_for_the_one_that_is_written(monkeypatch, tmp_path):
    run = Run(monkeypatch, tmp_path, 100, 1.0)
    run.steps(2)
    run.writer.writing = True
    run.steps(5)
    run.writer.writing = False
    run.steps(1)
    assert run.saved == [2, 8]


def late_on_one(rank, folder):
    """The steps saved where the first rank's clock runs and where the second one's does."""
    saved = []
    for late_rank in range(2):
        with pytest.MonkeyPatch.context() as patch:
            run = Run(patch, folder, 100, 1.0)
            run.steps(3, seconds=30.0 if rank == late_rank else 1.0)
        saved.append(run.saved)
    return saved


def test_all_ranks_go_by_the_first_ones_clock(tmp_path):
    assert on_ranks(late_on_one, tmp_path, tmp_path) == [[[2], []], [[2], []]]


@pytest.fixture
def waiting(monkeypatch, tmp_path):
    """A run that waits for its next batch, with real signals."""
    run = Run(monkeypatch, tmp_path, 100, 0.0)
    monkeypatch.undo()
    run.writer.wait = run.trainer.strategy.barrier = lambda: None
    monkeypatch.setattr(checkpoint, "PATIENCE", WATCHED)
    handlers, hook = [signal.getsignal(number) for number in (*checkpoint.SIGNALS, signal.SIGALRM)], sys.excepthook
    run.callback.install()
    yield run
    run.callback.end()
    assert sys.excepthook is hook
    assert [signal.getsignal(number) for number in (*checkpoint.SIGNALS, signal.SIGALRM)] == handlers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_a_run_that_waits_for_a_batch(waiting, number):
    waiting.steps(3)
    with pytest.raises(Interrupted) as stop:
        signal.raise_signal(number)
    assert (stop.value.signal, stop.value.step, stop.value.saved) == (number, 3, True)
    assert waiting.saved == [3]


def test_what_lost_readers_leave_behind_is_not_told_but_everything_else_is(waiting, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: told.append(kind))
    waiting.steps(1)
    with pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGTERM)
    for kind in (EOFError, ConnectionResetError, KeyError):
        thread = threading.Thread(target=sys.excepthook, args=(kind, kind(), None))
        thread.start()
        thread.join()
    sys.excepthook(EOFError, EOFError(), None)  # the run's own
    assert told == [KeyError, EOFError]
    waiting.callback.end()
    monkeypatch.undo()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_batch_that_does_not_come_in_the_middle_of_a_step_is_not_waited_for_long(waiting, number):
    waiting.module.between_steps = False
    waiting.steps(1)
    signal.raise_signal(number)
    with pytest.raises(Interrupted) as stop:
        time.sleep(20)
    assert not stop.value.saved
    assert waiting.saved == []


def test_one_that_comes_is_worked_on_to_the_end_of_its_step(waiting):
    waiting.module.between_steps = False
    waiting.steps(1)
    signal.raise_signal(signal.SIGTERM)
    waiting.callback.on_train_batch_start(waiting.trainer, waiting.module, None, 1)
    time.sleep(2 * WATCHED)
    waiting.module.between_steps = True
    with pytest.raises(Interrupted) as stop:
        waiting.steps(1)
    assert (stop.value.step, stop.value.saved) == (2, True)
    assert waiting.saved == [2]


def test_a_signal_from_before_the_first_step_is_not_forgotten(waiting):
    waiting.callback.received = signal.SIGTERM
    with pytest.raises(Interrupted):
        waiting.callback.on_train_start(waiting.trainer, waiting.module)
    assert waiting.saved == [0]
