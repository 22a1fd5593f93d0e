"""The share of time that a run waits for its videos, and the one line of advice."""

import pytest

from motionops.training.watch import waiting
from motionops.training.watch.waiting import STEPS_BEFORE, Waiting


@pytest.fixture
def clock(monkeypatch):
    """Time that goes on when it is told to."""
    now = [100.0]
    monkeypatch.setattr(waiting.time, "perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def steps(clock, found, count, waits, works):
    for _ in range(count):
        clock(waits)
        found.batch_starts()
        clock(works)
        found.batch_ends()


def test_the_share_is_that_of_the_time_between_batches(clock):
    found = Waiting()
    found.batch_ends()
    steps(clock, found, 4, waits=1.0, works=3.0)
    assert found.share(16.0, 4, workers=2) == 0.25
    steps(clock, found, 4, waits=0.0, works=3.0)
    assert found.share(12.0, 4, workers=2) == 0.0  # of the steps since


def test_advice_comes_once_and_not_for_the_readers_start(clock, capsys):
    found = Waiting()
    found.batch_ends()
    steps(clock, found, STEPS_BEFORE, waits=9.0, works=1.0)
    found.share(500.0, STEPS_BEFORE, workers=2)
    assert not capsys.readouterr().err
    for _ in range(2):
        steps(clock, found, 10, waits=1.0, works=3.0)
        found.share(40.0, 10, workers=2)
    text = capsys.readouterr().err
    assert text.count("warning: ") == 1
    assert "25 % of the time is spent waiting for videos; more --workers (now 2)" in text


def test_little_waiting_is_no_matter(clock, capsys):
    found = Waiting()
    found.batch_ends()
    for _ in range(20):
        steps(clock, found, 10, waits=0.1, works=1.0)
        found.share(11.0, 10, workers=2)
    assert not capsys.readouterr().err
