"""One predict worker: the model in its process, and the threads behind the answers."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.ids import IdSigner, ids_of
from bento_selfheal.core.periodic import ThreadState
from bento_selfheal.core.records import Label, PredictionRecord
from bento_selfheal.deployment.locations import open_store, registry_of
from bento_selfheal.errors import InvalidInput, StoreError
from bento_selfheal.labelling.classes import LabelReader
from bento_selfheal.packaging.opening import open_embedder, open_package
from bento_selfheal.packaging.package import PackageInfo
from bento_selfheal.scoring.review import Review, Reviewer
from bento_selfheal.serving.answering.computing import Computed, Computing
from bento_selfheal.serving.candidates.desk import CandidateDesk
from bento_selfheal.serving.erasure.eraser import Eraser
from bento_selfheal.serving.feedback import FeedbackIntake
from bento_selfheal.serving.follower import Champion, Follower
from bento_selfheal.serving.monitor import DataMonitor, Predicted
from bento_selfheal.serving.operations import Operations
from bento_selfheal.serving.prediction_log import INPUT_BYTES, PredictionLog
from bento_selfheal.serving.reading.keys import KeyReader
from bento_selfheal.serving.reading.network_inputs import NetworkInputs
from bento_selfheal.serving.reading.request_embedder import RequestEmbedder
from bento_selfheal.serving.reading.rows import RowReader
from bento_selfheal.serving.reading.typed_rows import TypedRowReader
from bento_selfheal.serving.review_queue import ReviewQueue
from bento_selfheal.telemetry.spans import Telemetry

SLACK = 1.1
"""How far the log may be over its size between two looks of retention: then inputs are left out."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """A worker's answer to one request; all of it comes from one champion."""

    token: str
    """The text before the dot of the rows' ids."""
    probabilities: NDArray[np.float32]
    """``(n,)`` of two classes, ``(n, classes)`` of more."""
    champion: Champion
    """The model that answered, a canary's too, with its threshold."""
    review: Review | None = None
    """Which rows are looked at; None where all are."""
    request: bytes = b""
    """The request's key."""
    candidate: str | None = None
    """Tag of the candidate that answered; None where the champion did."""
    rows: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """What was asked, ``(n, features)``."""
    keys: bytes = b""
    """The hashes of the rows' own keys."""

    @property
    def ids(self) -> list[str]:
        """The prediction ids, one per row."""
        return ids_of(self.token, len(self.probabilities))


class Worker:
    """Everything that one predict process holds; it needs no runner to answer.

    Args:
        settings: The service's settings; the store must be prepared.
        telemetry: Records spans.

    Raises:
        StoreError: No package was deployed to the store.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self.store = open_store(settings)
        tag, secret = self.store.meta("package"), self.store.meta("secret")
        if tag is None or secret is None:
            raise StoreError("the store has no package yet; run `bento-selfheal deploy TAG` first")
        self.package = open_package(tag, settings.device)
        info = self.package.info
        registry = registry_of(self.package, self.store, settings)
        self.rows = _reader_of(info, settings.max_rows)
        if settings.log_inputs and info.rows_hold_inputs:
            log.warning("log_inputs has no effect: the log holds the rows of a table anyway")
        embedder = open_embedder(self.package)
        self.network = RequestEmbedder(embedder) if embedder is not None else None
        self.signer = IdSigner(secret)
        self.keys = KeyReader(secret)
        self.log = PredictionLog(
            self.store, interval=settings.tuning.flush_interval, limit=settings.queue_rows,
            input_limit=SLACK * settings.log_megabytes * 1e6 + INPUT_BYTES,
            share=settings.log_sample,
        )  # fmt: skip
        self.follower = Follower(
            self.store, registry, interval=settings.tuning.follow_interval, telemetry=telemetry
        )
        self.candidates = CandidateDesk(
            self.store, self.package.no_answers.shape[1:], settings.tuning.follow_interval
        )
        self.computing = Computing(self.follower, self.package)
        self._reviewer = Reviewer(
            settings.review, settings.review_share, settings.review_explored,
            self.package.baseline(self.package.reference_rows),
        )  # fmt: skip
        self.monitor = (
            DataMonitor(
                info.features, info.classes, columns=info.columns, hidden=info.hidden_columns,
                interval=settings.tuning.flush_interval, limit=settings.queue_rows,
            )
            if settings.monitor else None
        )  # fmt: skip
        self.feedback = FeedbackIntake(
            self.store, self.signer, self.keys, self._read_one, LabelReader(info.classes),
            settings.max_rows, self.monitor, days=settings.feedback_days,
        )  # fmt: skip
        queue = ReviewQueue(
            self.store, self.signer, info, lambda: self.follower.champion.threshold, settings
        )
        eraser = Eraser(self.store, self.signer, self.keys, registry)
        self.operations = Operations(
            self.store, self.follower.load, self.describe, telemetry, queue, eraser, info.classes
        )

    def start(self) -> None:
        """Follow promotions and write the log from now on."""
        self.follower.thread.start()
        self.log.thread.start()
        self.candidates.thread.start()
        if self.monitor is not None:
            self.monitor.thread.start()

    def stop(self) -> None:
        """Write what waits, then close the store."""
        self.follower.thread.stop()
        self.candidates.thread.stop()
        self.feedback.stop()
        self.log.thread.stop()
        if self.monitor is not None:
            self.monitor.thread.stop()
        self.store.close()

    @property
    def alive(self) -> bool:
        """Whether every thread behind the answers still runs."""
        return all(thread["alive"] for thread in self.threads())

    def threads(self) -> list[ThreadState]:
        """The state of every thread behind the answers."""
        running = [
            self.follower.thread, self.log.thread, self.feedback.thread, self.candidates.thread
        ]  # fmt: skip
        if self.monitor is not None:
            running.append(self.monitor.thread)
        return [thread.state() for thread in running]

    def answer(self, rows: NDArray[np.float32], keys: bytes = b"") -> Answer:
        """Answer a batch with what answers at this moment; nothing here waits.

        Args:
            rows: ``(n, features)``, at least one.
            keys: The hashes of the rows' own keys, if they have any.

        Raises:
            InvalidInput: The model cannot answer one of the rows; it is named.
            PackageError: The model answers with something else than a probability for each row.
        """
        return self.record(self.computing.compute(rows, keys), keys)

    def record(self, computed: Computed, keys: bytes = b"") -> Answer:
        """The answer with its ids, logged for the runner.

        It belongs to the event loop's thread: the log's counters have no lock.
        """
        champion, rows, probabilities = computed.champion, computed.rows, computed.probabilities
        logged = self.log.takes_next()
        request, token = self.signer.issue(len(rows), logged=logged)
        review = self._reviewer.review(probabilities, champion.threshold)
        if logged:
            self.log.append(
                PredictionRecord(
                    request, rows, probabilities, champion.version, time.time(),
                    inputs=computed.inputs, keys=keys,
                    review=b"" if review is None else review.pack(),
                )
            )  # fmt: skip
        if self.monitor is not None:
            self.monitor.append(
                Predicted(token, rows, probabilities, champion.threshold, champion.version)
            )
        return Answer(token, probabilities, champion, review, request, rows=rows, keys=keys)

    async def ask_candidates(self, answer: Answer) -> Answer:
        """The answer of the candidate whose share the request is in, or the champion's as it is.

        The log keeps the champion's in any case: healing and its figures are about the champion.
        """
        if not self.candidates.active:
            return answer
        found = await self.candidates.answer(answer.request, answer.rows, answer.keys)
        if found is None:
            self.candidates.copy(answer.request, answer.rows)
            return answer
        candidate, said = found
        self.candidates.copy(answer.request, answer.rows, besides=candidate.id)
        return replace(answer, probabilities=said, candidate=candidate.tag)

    def decide(self, answer: Answer) -> list[Label]:
        """The class of each row at the threshold of the champion that answered."""
        classes = self.package.info.classes
        decided = decide_classes(answer.probabilities, answer.champion.threshold)
        return [classes[i] for i in decided.tolist()]

    def describe(self) -> dict[str, Any]:
        """This worker's part of ``/status``."""
        champion, canary = self.follower.champion, self.follower.canary
        return {
            "pid": os.getpid(),
            "serving_version": champion.version,
            "serving_since": champion.since,
            "threshold": champion.threshold,
            "canary": canary and {"version": canary.version, "share": canary.share},
            "queue_rows": self.log.waiting,
            "dropped_rows": self.log.dropped,
            "threads": self.threads(),
            "candidates": [candidate.id for candidate in self.candidates.running],
        }

    def _read_one(self, value: Any, loc: tuple[str | int, ...]) -> NDArray[np.float32]:
        """The row of an input that comes with its label, ``(features,)``."""
        if self.network is None or isinstance(self.rows, RowReader):
            return self.rows.read_one(value, loc)  # type: ignore[return-value]
        try:
            row: NDArray[np.float32] = self.network.embed_one(self.rows.read_one(value, loc))[0]
        except InvalidInput as error:
            raise InvalidInput((*loc, *error.loc[2:]), error.msg, error.kind) from error
        return row


def _reader_of(info: PackageInfo, max_rows: int) -> RowReader | NetworkInputs:
    if info.embedding is not None:
        return NetworkInputs(info.embedding, info.columns[info.hidden_columns :], max_rows)
    if info.columns:
        return TypedRowReader(info.columns, max_rows)
    return RowReader(info.features, max_rows)
