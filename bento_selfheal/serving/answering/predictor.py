"""Answers `/predict`: rows in, probabilities, classes and ids out."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from bento_selfheal.errors import InvalidInput, Overloaded, PackageError
from bento_selfheal.scoring.review import Review
from bento_selfheal.serving.http.auth import ASKED_BY
from bento_selfheal.serving.http.replies import Reply, as_reply, failed, refused_bytes, unavailable
from bento_selfheal.serving.reading.arrow_rows import read_arrow
from bento_selfheal.serving.reading.keys import keys_in
from bento_selfheal.serving.reading.network_inputs import Asked, NetworkInputs
from bento_selfheal.serving.worker import Answer, Worker
from bento_selfheal.telemetry import names
from bento_selfheal.telemetry.spans import Telemetry
from bento_selfheal.wire import npy
from bento_selfheal.wire.class_list import ClassList
from bento_selfheal.wire.messages import (
    ARROW,
    CANDIDATE_HEADER,
    NPY,
    REQUEST_HEADER,
    REVIEW_HEADER,
    THRESHOLD_HEADER,
    VERIFIED_HEADER,
    VERSION_HEADER,
    Predictions,
)

JSON_KINDS = ("", "application/json")
LONGEST_REVIEW = 6_000
"""Bytes of the header that tells which rows are looked at; clients read no 8,190 in one."""


class Answers(Protocol):
    """Answers requests as the worker's reader reads them, and records the answers."""

    async def answer(self, request: Any, keys: bytes, /) -> Answer:
        """The recorded answer to one request, with the hashes of its rows' keys."""


class Predictor:
    """Turns a request into its answer, on BentoML's way or from bytes to bytes.

    Args:
        worker: Reads rows and records answers.
        dispatcher: Answers rows, or the inputs of a network.
        telemetry: Records spans.
    """

    def __init__(self, worker: Worker, dispatcher: Answers, telemetry: Telemetry) -> None:
        self._worker = worker
        self._dispatcher = dispatcher
        self._telemetry = telemetry
        self._classes = ClassList(worker.package.info.classes).headers

    async def predict(self, rows: Any, facts: Any = None, keys: Any = None) -> Predictions:
        """Answer rows or inputs as JSON gives them, or an array.

        Args:
            rows: The rows, or the inputs of a network.
            facts: Named facts of the inputs.
            keys: The rows' own keys.

        Raises:
            InvalidInput: A row or a key is wrong, or the model cannot answer a row; it is named.
            PackageError: The model answers with something else than a probability for each row.
            Overloaded: It would be answered too late.
        """
        reader = self._worker.rows
        if isinstance(reader, NetworkInputs):
            fields = self._fields(await self._answer(reader.read(rows, facts), keys))
        elif facts is not None:
            raise InvalidInput(
                ("facts",), "this model takes rows of a table, without facts", "facts"
            )
        else:
            fields = self._fields(await self._answer(reader.read(rows), keys))
        return Predictions(**{**fields, "probabilities": fields["probabilities"].tolist()})

    async def reply(self, headers: Mapping[str, str], body: bytes) -> Reply | None:
        """Answer from bytes to bytes; None where BentoML's way is needed.

        Args:
            headers: Content-Type says JSON, a NumPy file of numbers ``(n, features)``, an Arrow
                stream, or what a network takes; Accept may ask for probabilities as a NumPy file.
            body: The request's body.
        """
        try:
            asked = await self._read(headers, body)
            if asked is None:
                return None
            answer = await self._answer(*asked)
        except InvalidInput as error:
            return refused_bytes(error)
        except PackageError as error:
            return as_reply(failed(error))
        except Overloaded as error:
            return as_reply(unavailable(error))
        if NPY in headers.get("accept", "") and (reply := self._numbers(answer)) is not None:
            return reply
        return Reply(orjson.dumps(self._fields(answer), option=orjson.OPT_SERIALIZE_NUMPY))

    async def _read(
        self, headers: Mapping[str, str], body: bytes
    ) -> tuple[NDArray[np.float32] | Asked, Any] | None:
        """What is asked, and the rows' own keys as they are given."""
        reader = self._worker.rows
        if isinstance(reader, NetworkInputs):
            asked = await reader.read_body(headers, body)
            return None if asked is None else (asked, asked.keys)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == NPY:
            return reader.read_npy(body), keys_in(headers)
        if kind == ARROW:
            return await read_arrow(reader, body)
        return reader.read_json(body) if kind in JSON_KINDS else None

    async def _answer(self, rows: NDArray[np.float32] | Asked, given: Any) -> Answer:
        """The recorded answer, in a span where spans are recorded."""
        keys = b"" if given is None else self._worker.keys.read(given, len(rows), ASKED_BY.get())
        if not self._telemetry.enabled:
            return await self._worker.ask_candidates(await self._dispatcher.answer(rows, keys))
        with self._telemetry.span(names.PREDICT, {names.ROWS: len(rows)}) as span:
            answer = await self._worker.ask_candidates(await self._dispatcher.answer(rows, keys))
            span.set_attribute(names.VERSION, answer.champion.version)
            span.set_attribute(names.CANARY, answer.champion.share < 1)
            return answer

    def _fields(self, answer: Answer) -> dict[str, Any]:
        """The fields of `Predictions`."""
        fields = {
            "prediction_ids": answer.ids,
            "probabilities": answer.probabilities,
            "decisions": self._worker.decide(answer),
            "threshold": answer.champion.threshold,
            "verified": answer.champion.verified,
            "model_version": answer.champion.version,
        }
        if answer.candidate is not None:
            fields["candidate"] = answer.candidate
        if answer.review is not None:
            fields["review"] = answer.review.asked(answer.request).tolist()
            fields["review_probability"] = answer.review.chances.tolist()
        return fields

    def _numbers(self, answer: Answer) -> Reply | None:
        """The probabilities as a NumPy file; everything else is in headers, which must hold it."""
        headers = {
            REQUEST_HEADER: answer.token,
            **self._classes,
            THRESHOLD_HEADER: repr(answer.champion.threshold),
            VERIFIED_HEADER: str(answer.champion.verified).lower(),
            VERSION_HEADER: str(answer.champion.version),
        }
        if answer.candidate is not None:
            headers[CANDIDATE_HEADER] = answer.candidate
        if answer.review is not None:
            headers[REVIEW_HEADER] = told = _told(answer.review, answer.request)
            if len(told) > LONGEST_REVIEW:
                return None
        return Reply(npy.dump(answer.probabilities), media_type=NPY, headers=headers)


def _told(review: Review, request: bytes) -> str:
    """Which rows are looked at, as a header says it."""
    masks = {"certain": review.certain, "asked": review.asked(request)}
    bits = {name: b64encode(np.packbits(mask).tobytes()).decode() for name, mask in masks.items()}
    return json.dumps({"explored": review.explored, **bits})
