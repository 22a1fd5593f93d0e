"""torchrun --max-restarts: a process dies, all are started again, and the run goes on from last.ckpt."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from motionops.training.launch import restarts_hang
from tests.runs.runs import command, environment, logged
from tests.several_ranks import as_torchrun_does
from trainers import fima

LOGGED = ("step", "epoch", "loss", "loss_vv", "accuracy", "learning_rate")
AT_STEP = 6


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def wait_for_steps(output: Path, steps: int, process: subprocess.Popen) -> None:
    end = time.monotonic() + 200
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            if len((output / "metrics.csv").read_text().splitlines()) > steps:
                return
        time.sleep(0.01)
    pytest.fail("the run did not come so far")


@pytest.mark.parametrize("rank", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_whose_process_is_killed_is_restarted_and_ends_as_if_nothing_had_been(tiny, tmp_path, rank):
    whole, cut = (tiny(output=tmp_path / name, epochs=5, losses=("vv",)) for name in ("whole", "cut"))
    as_torchrun_does(fima.main, whole)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line = command(cut, "fima", "--resume", "--checkpoint-every", "4")[1:]
    with open(tmp_path / "log.txt", "w+") as log:
        process = subprocess.Popen(
            [*torchrun, "--max-restarts", "1", *line],
            env=environment(TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1"),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_for_steps(cut.output, AT_STEP, process)
            os.kill(children(process.pid)[rank], signal.SIGKILL)
            assert process.wait(timeout=200) == 0, (tmp_path / "log.txt").read_text()[-3000:]
        finally:
            if process.poll() is None:
                for child in children(process.pid):  # torchrun's processes are sessions of their own
                    os.kill(child, signal.SIGKILL)
                process.kill()
                process.wait()
        log.seek(0)
        text = log.read()
    assert re.search(r"continuing after step (4|8|12|16) of", text)
    assert "may wait for dead ones" not in text
    assert logged(cut.output, LOGGED) == logged(whole.output, LOGGED)


@pytest.mark.parametrize(
    ("shared", "restarts", "expected"), [("True", "3", True), ("False", "3", False), ("True", "0", False)]
)
def test_a_store_that_outlives_an_attempt_is_warned_of(monkeypatch, tiny, capsys, shared, restarts, expected):
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", shared)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", restarts)
    assert restarts_hang() == expected
    assert fima.main(tiny(max_steps=1, losses=("vv",))) == 0
    assert ("export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in capsys.readouterr().err) == expected
