"""The doors' benchmark: a request that hey leaves out of its list is one that failed."""

import subprocess
from types import SimpleNamespace

import pytest

from bench import doors

HEAD = (
    "response-time,DNS+dialup,DNS,Request-write,Response-delay,Response-read,status-code,offset\n"
)


@pytest.mark.parametrize(
    ("good", "bad", "failed"),
    [(1000, 0, 0), (985, 0, 0), (990, 10, 10), (500, 0, 480), (500, 5, 480)],
    ids=["all", "cut by the clock", "errors", "half not connected", "half, and errors"],
)
def test_what_was_to_be_sent_and_is_not_listed_has_failed(
    monkeypatch: pytest.MonkeyPatch, good: int, bad: int, failed: int
) -> None:
    rows = [f"0.0020,0,0,0,0,0,{status},0.1\n" for status in [200] * good + [502] * bad]
    text = HEAD + "".join(rows)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=text))
    times, wrong = doors.load_of("http://a")
    assert len(times) == good
    assert doors.failed_of(times, wrong) == failed


def test_a_slow_answer_that_kept_others_from_being_sent_is_no_failure() -> None:
    assert doors.failed_of([0.002] * 949 + [1.02], 0) == 0
    assert doors.failed_of([0.002] * 900 + [1.02], 0) == 29


def test_a_way_that_answers_nothing_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=HEAD))
    with pytest.raises(SystemExit, match="http://a answers nothing"):
        doors.load_of("http://a")
