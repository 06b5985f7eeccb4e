"""Makes labels durable before they are acknowledged."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue

from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.core.records import FeedbackRecord
from bento_selfheal.errors import StoreError
from bento_selfheal.serving.prediction_log import GROUP
from bento_selfheal.store import FeedbackResult, SqlStore

ANSWER_SECONDS = 10.0
"""How long a feedback request waits for the store before it is refused."""


class LabelLog:
    """Makes labels durable: what comes from several requests at once is one commit.

    Args:
        store: Where a thread commits them.

    Attributes:
        store: The same.
        thread: Commits the labels; it runs from the start.
    """

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self.thread = PeriodicThread(
            "selfheal-labels", self._write, 0.0, at_once=True, at_end=self._refuse_the_rest
        )
        self.thread.start()

    def stop(self) -> None:
        """Write what waits and stop."""
        self._queue.put(None)
        self.thread.stop()

    def keep(self, records: list[FeedbackRecord]) -> FeedbackResult:
        """Write labels; returns when they are on disk.

        Raises:
            StoreError: The store is out of reach or too slow; sent again, each counts once.
        """
        done: Future[FeedbackResult] = Future()
        if not self.thread.alive:
            raise StoreError("the service is stopping and accepts no feedback; send it again")
        self._queue.put(Waiting(records, done))
        try:
            return done.result(ANSWER_SECONDS)
        except TimeoutError:
            done.cancel()
            raise StoreError(
                f"the store did not answer within {ANSWER_SECONDS:.0f} s; send the labels again"
            ) from None

    def _write(self) -> None:
        group = [self._queue.get()]
        while len(group) < GROUP and not self._queue.empty():
            group.append(self._queue.get())
        if None in group:
            self._queue.put(None)  # the thread is about to be stopped: do not wait here again
        # One that was given up in the queue is left out: its client was told so.
        self._commit([one for one in group if one is not None and one.begin()])

    def _refuse_the_rest(self) -> None:
        while not self._queue.empty():
            late = self._queue.get()
            if late is not None and late.begin():
                late.done.set_exception(StoreError("the service is stopping; send it again"))

    def _commit(self, group: list[Waiting]) -> None:
        if not group:
            return
        try:
            whole = self.store.add_feedback([r for one in group for r in one.records])
        except Exception as error:  # each request is told why, and the thread lives on
            for one in group:
                one.done.set_exception(error)
            return
        start = 0
        for one in group:
            end = start + len(one.records)
            one.done.set_result(whole.part(start, end))
            start = end


@dataclass(frozen=True)
class Waiting:
    """The labels of one request that waits for the store."""

    records: list[FeedbackRecord]
    done: Future[FeedbackResult]

    def begin(self) -> bool:
        """Whether the request still waits; from now on it cannot be given up."""
        return self.done.set_running_or_notify_cancel()
