"""Background threads: they go on after any error, and their end is seen."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from conftest import wait_for

from bento_selfheal.core import periodic
from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.errors import StoreError


@pytest.fixture
def make() -> Iterator[Callable[..., PeriodicThread]]:
    """Threads that are stopped after the test."""
    threads: list[PeriodicThread] = []

    def new(work: Callable[[], float | None], seconds: float = 0.0, **more: object
            ) -> PeriodicThread:  # fmt: skip
        threads.append(PeriodicThread("selfheal-test", work, seconds, **more))  # type: ignore[arg-type]
        return threads[-1]

    yield new
    for thread in threads:
        thread.stop()


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "FIRST_RETRY_SECONDS", 1e-4)


@pytest.mark.usefixtures("_impatient")
def test_goes_on_after_any_error(
    make: Callable[..., PeriodicThread], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the work raises is logged and counted, and the work is called again; a success
    ends the row of failures, and the last error stays to be read."""
    errors = [MemoryError("one bad moment"), OverflowError("inf"), StoreError("out of reach")]
    calls = threading.Semaphore(0)

    def work() -> None:
        calls.release()
        if errors:
            raise errors.pop(0)

    thread = make(work)
    with caplog.at_level(logging.INFO):
        thread.start()
        for _ in range(5):
            assert calls.acquire(timeout=10)
    wait_for(lambda: not thread.failing, "a success")
    assert thread.state() == {"name": "selfheal-test", "alive": True, "failures": 3, "failing": 0,
                              "last_error": "out of reach"}  # fmt: skip
    assert "selfheal-test failed (1 in a row)" in caplog.text
    assert "MemoryError: one bad moment" in caplog.text
    assert "selfheal-test works again after 3 failures" in caplog.text


def test_waits_longer_after_each_failure(make: Callable[..., PeriodicThread]) -> None:
    """The pause doubles with each failure in a row, up to a bound, and a success resets it."""
    thread = make(lambda: None, seconds=0.5, longest_retry=5.0)
    error = ValueError("again")
    assert [thread._failed(error) for _ in range(5)] == [1, 2, 4, 5, 5]
    assert thread._call() == 0.5
    assert thread._failed(error) == 1


def test_work_sets_the_next_wait(make: Callable[..., PeriodicThread]) -> None:
    """The seconds that the work returns hold once, in place of the usual ones."""
    waits = [0.0, None]
    thread = make(lambda: waits.pop(0), seconds=60.0)
    assert [thread._call(), thread._call()] == [0.0, 60.0]


def test_wakes(make: Callable[..., PeriodicThread]) -> None:
    """`wake` brings the next call forward; `at_once` makes the first one without a wait."""
    calls = threading.Semaphore(0)
    thread = make(calls.release, seconds=3600.0, at_once=True)
    thread.start()
    assert calls.acquire(timeout=10)
    thread.wake()
    assert calls.acquire(timeout=10)


def test_stops(make: Callable[..., PeriodicThread]) -> None:
    """A stop does not wait for the next call, ends a pause inside the work, and calls what is to
    be done at the end once, in the thread."""
    ended: list[str] = []
    thread = make(
        lambda: thread.pause(3600) and None, at_once=True,
        at_end=lambda: ended.append(threading.current_thread().name),
    )  # fmt: skip
    assert not thread.alive
    thread.start()
    assert thread.alive
    assert thread.stop()
    assert (thread.alive, thread.stopping, ended) == (False, True, ["selfheal-test"])


def test_a_stop_has_a_deadline(
    make: Callable[..., PeriodicThread], caplog: pytest.LogCaptureFixture
) -> None:
    """Work that does not end holds the stop no longer than asked, and is named in the log."""
    entered, leave = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        leave.wait(30)

    thread = make(work)
    thread.start()
    assert entered.wait(10)
    assert thread.stop(timeout=0.01) is False
    assert "selfheal-test did not stop" in caplog.text
    leave.set()


def test_death_is_seen(
    make: Callable[..., PeriodicThread], caplog: pytest.LogCaptureFixture
) -> None:
    """What ends a thread all the same is in the log and in its state."""

    def work() -> None:
        raise SystemExit("torn down")

    thread = make(work)
    thread.start()
    wait_for(lambda: not thread.alive, "the end of the thread")
    assert thread.state()["last_error"] == "SystemExit: torn down"
    assert "selfheal-test died" in caplog.text


@pytest.mark.usefixtures("_impatient")
def test_fails_at_its_end(make: Callable[..., PeriodicThread]) -> None:
    """An error of the last thing done is counted like any other."""

    def at_end() -> None:
        raise StoreError("out of reach")

    thread = make(lambda: None, at_end=at_end)
    thread.start()
    assert thread.stop()
    assert (thread.failures, thread.last_error) == (1, "out of reach")
