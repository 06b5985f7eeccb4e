"""The BentoML service that predicts, takes feedback and answers operators."""

from __future__ import annotations

import functools
import gc
import json
import logging
import sys
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import anyio.to_thread
import bentoml
import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from pydantic import WrapValidator

from bento_selfheal.config.settings import load_settings
from bento_selfheal.core.records import FeedbackOutcome
from bento_selfheal.errors import InvalidInput, StoreError
from bento_selfheal.serving.http.auth import ASKED_BY, Role
from bento_selfheal.serving.http.fast_path import Reply
from bento_selfheal.serving.http.operator_api import Operations, operations_app
from bento_selfheal.serving.http.rate_limit import LabelRateLimit
from bento_selfheal.serving.http.replies import (
    _refused,
    _status,
    _too_many,
    _TooMany,
    _unavailable,
    _unless_too_many,
)
from bento_selfheal.serving.worker import Answer, Worker
from bento_selfheal.serving.worker_metrics import WorkerMeters
from bento_selfheal.telemetry import names as names
from bento_selfheal.telemetry.logs import log_with_bentoml
from bento_selfheal.telemetry.metrics import exposition, open_meter
from bento_selfheal.telemetry.otel import open_telemetry
from bento_selfheal.wire import npy
from bento_selfheal.wire.messages import (
    CLASSES_HEADER,
    NPY,
    REQUEST_HEADER,
    THRESHOLD_HEADER,
    VERIFIED_HEADER,
    VERSION_HEADER,
    FeedbackCounts,
    FeedbackItem,
    Predictions,
    Rows,
)

log = logging.getLogger(__name__)


SWITCH_SECONDS = 0.0005


class PredictBase:
    """Predicts, takes feedback, and shows operators where the service stands."""

    def __init_subclass__(cls) -> None:
        # BentoML takes mounted apps off the very class that it decorates.
        cls.__bentoml_mounted_apps__ = [  # type: ignore[attr-defined]
            (operations_app(functools.partial(_operations_of, cls)), "/", None)
        ]

    roles: ClassVar[dict[str, frozenset[Role]]] = {}
    """What endpoints of a user's own ask for where there are tokens, by their whole path; an empty
    set for nothing. Those that are not named ask for a token that may operate."""

    _running: PredictBase | None = None

    def __init__(self) -> None:
        settings = load_settings()
        log_with_bentoml(settings.log_format)
        torch.set_num_threads(1)
        self._telemetry = open_telemetry()
        self._worker = Worker(settings, self._telemetry)
        self._worker.start()
        _TooMany.limit = settings.max_rows
        self._quota = LabelRateLimit(
            settings.source_labels_per_minute, settings.token_labels_per_minute
        )
        self._classes = json.dumps(self._worker.package.info.classes)
        store = self._worker.store
        self._meters = WorkerMeters(
            open_meter("selfheal"), self._worker.describe, lambda: store.leader() is not None
        )
        type(self)._running = self
        # The event loop waits for a thread that computes no longer than this.
        sys.setswitchinterval(SWITCH_SECONDS)
        # A full collection walks all of torch's objects, 0.1 s in the middle of a request.
        gc.collect()
        gc.freeze()

    @bentoml.on_shutdown
    def shut_down(self) -> None:
        """Write what waits and stop the threads."""
        self._meters.stop()
        self._worker.stop()

    async def __is_alive__(self) -> bool:
        """For `/livez`: false when a restart of this worker would mend it.

        `/readyz` needs no such answer: a worker takes requests only after `__init__`, which fails
        where no adapter verifies.
        """
        return self._worker.alive

    @bentoml.api
    async def predict(self, rows: Rows) -> Predictions:
        """Answer a batch of rows. Keep the ids: labels come back with them.

        Large batches go faster as a NumPy file, `Content-Type: application/x-npy`; with
        `Accept: application/x-npy` the probabilities come back as one.
        """
        try:
            checked = self._worker.rows.read(rows)
        except InvalidInput as error:
            return _refused(error)
        fields = self._fields(self._traced(checked))
        return Predictions(**{**fields, "probabilities": fields["probabilities"].tolist()})

    def _traced(self, rows: NDArray[np.float32]) -> Answer:
        """The answer, in a span where spans are recorded."""
        if not self._telemetry.enabled:
            return self._worker.answer(rows)
        with self._telemetry.span(names.PREDICT, {names.ROWS: len(rows)}) as span:
            answer = self._worker.answer(rows)
            span.set_attribute(names.VERSION, answer.champion.version)
            return answer

    def _fields(self, answer: Answer) -> dict[str, Any]:
        """The fields of `Predictions`."""
        return {
            "prediction_ids": answer.ids,
            "probabilities": answer.probabilities,
            "decisions": self._worker.decide(answer),
            "threshold": answer.champion.threshold,
            "verified": answer.champion.verified,
            "model_version": answer.champion.version,
        }

    def _numbers(self, answer: Answer) -> Reply:
        """The probabilities as a NumPy file; what else there is to say stands in headers."""
        headers = {
            REQUEST_HEADER: answer.token,
            CLASSES_HEADER: self._classes,
            THRESHOLD_HEADER: repr(answer.champion.threshold),
            VERIFIED_HEADER: str(answer.champion.verified).lower(),
            VERSION_HEADER: str(answer.champion.version),
        }
        return Reply(npy.dump(answer.probabilities), media_type=NPY, headers=headers)

    def reply(self, headers: Mapping[str, str], body: bytes) -> Reply | None:
        """Answer `/predict` from bytes to bytes; None where BentoML's way is needed.

        Args:
            headers: Content-Type tells JSON or a NumPy file of numbers ``(n, features)``; with
                Accept a NumPy file of the probabilities is asked for.
            body: The request's body.
        """
        reader = self._worker.rows
        try:
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind == NPY:
                rows = reader.read_npy(body)
            elif kind in ("", "application/json"):
                read = reader.read_json(body)
                if read is None:
                    return None
                rows = read
            else:
                return None
        except InvalidInput as error:
            return Reply(orjson.dumps(error.body()), _status(error))
        answer = self._traced(rows)
        if NPY in headers.get("accept", ""):
            return self._numbers(answer)
        fields = self._fields(answer)
        return Reply(orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY))

    @bentoml.api
    async def feedback(
        self, items: Annotated[list[FeedbackItem], WrapValidator(_unless_too_many)]
    ) -> FeedbackCounts:
        """Give labels. Accepted ones are on disk when the answer comes."""
        with self._telemetry.span(names.FEEDBACK, {names.ROWS: len(items)}) as span:
            if (wait := self._quota.take(items, ASKED_BY.get())) is not None:
                return _too_many(wait)
            try:
                answer = await anyio.to_thread.run_sync(
                    self._worker.feedback.accept, items, self._telemetry.traceparent()
                )
            except InvalidInput as error:
                return _refused(error)
            except StoreError as error:
                return _unavailable(error)
            span.set_attributes({f"{names.ITEMS}.{k}": v for k, v in answer.counts.items()})
        self._meters.feedback({k.value: v for k, v in answer.counts.items()})
        return FeedbackCounts(
            accepted=answer.counts[FeedbackOutcome.ACCEPTED],
            already_known=answer.counts[FeedbackOutcome.KNOWN],
            unknown=answer.counts[FeedbackOutcome.UNKNOWN],
            unmatched=answer.unmatched,
            in_conflict=answer.counts[FeedbackOutcome.CONFLICT],
            unknown_ids=answer.unknown,
            conflicts=answer.conflicts,
        )

    def __metrics__(self, content: str) -> str:
        """BentoML's own metrics, and ours from the store: the same on every worker."""
        try:
            status = self._worker.operations.status()
        except StoreError as error:
            log.warning("/metrics without the runner's figures: %s", error)
            return content
        return content + exposition(status)


def _hide_input(*methods: Any) -> None:
    """Let errors of validation name the field alone: BentoML writes them to the log."""
    for method in methods:
        method.input_spec.model_config["hide_input_in_errors"] = True
        method.input_spec.model_rebuild(force=True)


def _operations_of(cls: type[PredictBase]) -> Operations:
    running = cls._running
    if running is None:
        raise StoreError("the worker is still starting")
    return running._worker.operations


def _answer_of(cls: type[PredictBase], headers: Mapping[str, str], body: bytes) -> Reply | None:
    running = cls._running
    return None if running is None else running.reply(headers, body)


def _count_refusal(cls: type[PredictBase], status: int) -> None:
    running = cls._running
    if running is not None:
        running._meters.refused(status)


_hide_input(PredictBase.predict, PredictBase.feedback)
