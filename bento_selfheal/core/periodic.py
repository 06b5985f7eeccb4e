"""Background work that is done again and again, and that never stops without a trace."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from typing import TypedDict

from bento_selfheal.errors import SelfHealError, brief

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 8.0
STOP_SECONDS = 10.0


class ThreadState(TypedDict):
    """What `PeriodicThread.state` tells operators, as JSON."""

    name: str
    alive: bool
    failures: int
    failing: int
    last_error: str


class PeriodicThread:
    """A daemon thread that calls its work over and over until it is stopped.

    Any exception of the work is logged and counted, and the work is called again after a pause
    that doubles with each failure in a row. A success resets the pause.

    Args:
        name: Name of the thread, for logs, `/status` and metrics.
        work: Called with nothing. It may return the seconds until the next call, for this once.
        seconds: Seconds until the next call where the work returns none.
        at_once: Make the first call at the start instead of after ``seconds``.
        longest_retry: Longest pause after failures, in seconds.
        at_end: Called once, in the thread, after the last call of the work.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], float | None],
        seconds: float,
        *,
        at_once: bool = False,
        longest_retry: float = LONGEST_RETRY_SECONDS,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.failures = 0
        self.failing = 0
        self.last_error = ""
        self._work = work
        self._seconds = seconds
        self._first = 0.0 if at_once else seconds
        self._longest_retry = longest_retry
        self._at_end = at_end
        self._stop = threading.Event()
        self._wake = threading.Event()
        context = contextvars.copy_context()  # which model it is about, for its log lines
        self._thread = threading.Thread(
            target=lambda: context.run(self._run), name=name, daemon=True
        )

    def start(self) -> None:
        """Begin. A thread starts once."""
        self._thread.start()

    def wake(self) -> None:
        """Call the work now, or once more when the call in hand ends."""
        self._wake.set()

    def ask_to_stop(self) -> None:
        """Have the thread end when the call in hand is over; `stop` waits for that."""
        self._stop.set()
        self._wake.set()

    def stop(self, timeout: float = STOP_SECONDS) -> bool:
        """Let the call in hand finish and end the thread.

        Args:
            timeout: Seconds to wait for it.

        Returns:
            False when the thread was still at work after that; it ends with the process.
        """
        self.ask_to_stop()
        if self._thread.is_alive():
            self._thread.join(timeout)
        if self._thread.is_alive():
            log.warning("%s did not stop within %.0f s", self.name, timeout)
            return False
        return True

    @property
    def alive(self) -> bool:
        """Whether the thread runs: started, and neither stopped nor dead."""
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called; long work should look at it between its steps."""
        return self._stop.is_set()

    def pause(self, seconds: float) -> bool:
        """Sleep inside the work; True, at once, when the thread is to stop."""
        return self._stop.wait(seconds)

    def state(self) -> ThreadState:
        """Whether the thread lives, and how often its work failed: in all, and in a row."""
        return {
            "name": self.name,
            "alive": self.alive,
            "failures": self.failures,
            "failing": self.failing,
            "last_error": self.last_error,
        }

    def _run(self) -> None:
        try:
            wait = self._first
            while not self._stopped_within(wait):
                wait = self._call()
            if self._at_end is not None:
                self._finish(self._at_end)
        except BaseException as error:
            # Whatever ends a thread must not end it in silence.
            self.last_error = _text(error)
            log.critical("%s died and will not come back", self.name, exc_info=True)

    def _stopped_within(self, seconds: float) -> bool:
        self._wake.wait(seconds)
        self._wake.clear()
        return self._stop.is_set()

    def _call(self) -> float:
        try:
            wait = self._work()
        except Exception as error:
            return self._failed(error)
        if self.failing:
            log.info("%s works again after %d failures", self.name, self.failing)
            self.failing = 0
        return self._seconds if wait is None else wait

    def _failed(self, error: Exception) -> float:
        text = _text(error)
        # What the package raises on purpose explains itself; anything else needs its traceback.
        unforeseen = not isinstance(error, SelfHealError) and text != self.last_error
        self.failures += 1
        self.failing += 1
        self.last_error = text
        wait = float(min(FIRST_RETRY_SECONDS * 2 ** min(self.failing - 1, 30), self._longest_retry))
        log.log(
            logging.ERROR if not isinstance(error, SelfHealError) else logging.WARNING,
            "%s failed (%d in a row), next try in %.1f s: %s",
            self.name, self.failing, wait, text, exc_info=unforeseen,
        )  # fmt: skip
        return wait

    def _finish(self, at_end: Callable[[], None]) -> None:
        try:
            at_end()
        except Exception as error:
            self.failures += 1
            self.last_error = _text(error)
            log.exception("%s failed at its end", self.name)


def _text(error: BaseException) -> str:
    return str(error) if isinstance(error, SelfHealError) else brief(error)
