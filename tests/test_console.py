"""Progress in a log: full lines, rarely, and no number that could be wrong."""

import sys

import pytest
from tqdm import tqdm

from tf_simclr import console


class Terminal:
    def __init__(self, stream):
        self._stream = stream

    def isatty(self):
        return True

    def __getattr__(self, name):
        return getattr(self._stream, name)


@pytest.fixture
def clock(monkeypatch):
    """A list with the current time, in seconds."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_the_first_step_is_reported_at_once_and_then_every_30_seconds(clock, capfd):
    with console.progress(total=1000, initial=10, desc="pretrain", unit="step", leave=True) as bar:
        clock[0] += 70  # compiling
        bar.set_postfix_str("loss 5.0")
        bar.update(1)
        bar.set_postfix_str("9 images/s, loss 4.0")
        for _ in range(35):
            clock[0] += 2
            bar.update(4)
    assert capfd.readouterr().err.splitlines() == [
        "pretrain: step 11 of 1000, loss 5.0",
        "pretrain: step 71 of 1000, 9 images/s, loss 4.0, 07:44 left",
        "pretrain: step 131 of 1000, 9 images/s, loss 4.0, 07:14 left",
        "pretrain: step 151 of 1000, 9 images/s, loss 4.0, 07:04 left",
    ]


def test_the_end_is_reported_once_and_has_no_time_left(clock, capfd):
    with console.progress(total=2, desc="pretrain", unit="step", leave=True) as bar:
        for _ in range(2):
            clock[0] += 31
            bar.update()
    lines = capfd.readouterr().err.splitlines()
    assert lines == ["pretrain: step 1 of 2", "pretrain: step 2 of 2"]


def test_short_work_reports_nothing(clock, capfd):
    for batch in console.progress(range(5), total=5, desc="evaluate", unit="batch"):
        clock[0] += 10 if batch else 31
    assert capfd.readouterr().err.splitlines() == [
        "evaluate: batch 1 of 5",
        "evaluate: batch 4 of 5, 00:10 left",
    ]
    for _ in console.progress(range(5), total=5, desc="evaluate", unit="batch"):
        clock[0] += 1
    assert capfd.readouterr().err == ""


def test_workers_other_than_the_chief_say_nothing(clock, capfd):
    with console.progress(total=5, desc="x", unit="step", leave=True, disable=True) as bar:
        clock[0] += 31
        bar.update()
    assert capfd.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch, capfd):
    monkeypatch.setattr(sys, "stderr", Terminal(sys.stderr))
    with console.progress(total=5, desc="pretrain", unit="step", leave=True) as bar:
        assert isinstance(bar, tqdm)
        bar.set_postfix_str("loss 5.0", refresh=False)
        bar.update(5)
    assert "100%" in capfd.readouterr().err


def test_without_stderr_nothing_is_shown(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with console.progress(total=5, desc="pretrain", unit="step", leave=True) as bar:
        bar.update(5)
