"""Answers `/predict`: rows in, probabilities, classes and ids out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from opentelemetry.trace import INVALID_SPAN

from bento_selfheal.errors import InvalidInput, PackageError
from bento_selfheal.serving.answering.gathering import Gathering
from bento_selfheal.serving.http.replies import Reply, failed, refused_bytes
from bento_selfheal.serving.worker import Answer, Worker
from bento_selfheal.telemetry import names
from bento_selfheal.telemetry.spans import Telemetry
from bento_selfheal.wire import npy
from bento_selfheal.wire.messages import (
    CLASSES_HEADER,
    NPY,
    REQUEST_HEADER,
    THRESHOLD_HEADER,
    VERIFIED_HEADER,
    VERSION_HEADER,
    Predictions,
)

UNRECORDED = nullcontext(INVALID_SPAN)
JSON_KINDS = ("", "application/json")


class Predictor:
    """Turns a request into its answer, on BentoML's way or from bytes to bytes.

    Args:
        worker: Answers rows.
        telemetry: Records spans.
    """

    def __init__(self, worker: Worker, telemetry: Telemetry) -> None:
        self._worker = worker
        self._telemetry = telemetry
        self._gathering = Gathering(worker.answer_all)
        self._classes = json.dumps(worker.package.info.classes)

    def predict(self, rows: Any) -> Predictions:
        """Answer rows as JSON gives them, or an array.

        Raises:
            InvalidInput: A row is wrong, or the model cannot answer it; the row is named.
            PackageError: The model answers with something else than a probability for each row.
        """
        read = self._worker.rows.read(rows)
        with self._span(read) as span:
            answer = self._worker.answer(read)
            span.set_attribute(names.VERSION, answer.champion.version)
        fields = self._fields(answer)
        return Predictions(**{**fields, "probabilities": fields["probabilities"].tolist()})

    async def reply(self, headers: Mapping[str, str], body: bytes) -> Reply | None:
        """Answer from bytes to bytes; None where BentoML's way is needed.

        Requests that have come by the same moment are answered by one call of the model.

        Args:
            headers: Content-Type says JSON, or a NumPy file of numbers ``(n, features)``; Accept
                may ask for a NumPy file of the probabilities.
            body: The request's body.
        """
        try:
            rows = self._read(headers.get("content-type", ""), body)
            if rows is None:
                return None
            with self._span(rows) as span:
                answer = await self._gathering.answer(rows)
                span.set_attribute(names.VERSION, answer.champion.version)
        except InvalidInput as error:
            return refused_bytes(error)
        except PackageError as error:
            return Reply(bytes(failed(error).body), 500)
        if NPY in headers.get("accept", ""):
            return self._numbers(answer)
        return Reply(orjson.dumps(self._fields(answer), option=orjson.OPT_SERIALIZE_NUMPY))

    def _read(self, content_type: str, body: bytes) -> NDArray[np.float32] | None:
        kind = content_type.partition(";")[0].strip().lower()
        if kind == NPY:
            return self._worker.rows.read_npy(body)
        return self._worker.rows.read_json(body) if kind in JSON_KINDS else None

    def _span(self, rows: NDArray[np.float32]) -> AbstractContextManager[Any]:
        """The span of an answer; where none is recorded, making one would cost."""
        if not self._telemetry.enabled:
            return UNRECORDED
        return self._telemetry.span(names.PREDICT, {names.ROWS: len(rows)})

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
        """The probabilities as a NumPy file; everything else is in headers."""
        headers = {
            REQUEST_HEADER: answer.token,
            CLASSES_HEADER: self._classes,
            THRESHOLD_HEADER: repr(answer.champion.threshold),
            VERIFIED_HEADER: str(answer.champion.verified).lower(),
            VERSION_HEADER: str(answer.champion.version),
        }
        return Reply(npy.dump(answer.probabilities), media_type=NPY, headers=headers)
