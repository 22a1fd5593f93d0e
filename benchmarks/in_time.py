"""A pytest plugin for runs that have little time: ``-p benchmarks.in_time --in-seconds 60``.

A failure is printed at once and not at the end, which may not come. After the seconds no further test starts, those
that were not begun are counted, and the exit status is :data:`OUT_OF_TIME` where nothing failed. pytest-xdist too.
"""

from __future__ import annotations

import os
import time

import pytest

OUT_OF_TIME = 75
# When to stop, in seconds since the epoch: the processes of pytest-xdist inherit it.
DEADLINE = "MOTIONOPS_TESTS_UNTIL"
SHOWN_LINES = 25

_left = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--in-seconds", type=float, help="start no further test after so many seconds")


def pytest_configure(config: pytest.Config) -> None:
    seconds = config.getoption("--in-seconds")
    if seconds is not None and not hasattr(config, "workerinput"):
        os.environ[DEADLINE] = str(time.time() + seconds)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Pass over a test that would begin too late."""
    global _left
    if item.config.getoption("--in-seconds") is None or time.time() < float(os.environ[DEADLINE]):
        return None
    _left += 1
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    """Of a process of pytest-xdist."""
    global _left
    _left += getattr(node, "workeroutput", {}).get("left", 0)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        end = report.longreprtext.splitlines()[-SHOWN_LINES:]
        print("", f"FAILED {report.nodeid} ({report.when}, {report.duration:.1f} s)", *end, sep="\n", flush=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left"] = _left
    elif _left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = OUT_OF_TIME


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left:
        terminalreporter.write_line(f"out of time: {_left} not begun")
