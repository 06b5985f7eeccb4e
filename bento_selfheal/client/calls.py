"""The calls that both clients make: how each one is sent, retried and read."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import httpx
import numpy as np
from pydantic import TypeAdapter
from tenacity import RetryCallState, retry_if_exception, stop_before_delay, wait_random_exponential

from bento_selfheal.client.bodies import JSON, body_of, json_body, table_body
from bento_selfheal.client.known_classes import KnownClasses
from bento_selfheal.client.reply import Reply, checked
from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.ids import ids_of
from bento_selfheal.core.records import Event, Promotion
from bento_selfheal.errors import ServiceError, ServiceUnavailable
from bento_selfheal.wire import npy
from bento_selfheal.wire.class_list import CLASSES_PATH
from bento_selfheal.wire.messages import (
    ARROW,
    BAD_ROWS_HEADER,
    CANDIDATE_HEADER,
    NPY,
    REPORT,
    REQUEST_HEADER,
    REVIEW_HEADER,
    THRESHOLD_HEADER,
    VERIFIED_HEADER,
    VERSION_HEADER,
    CommandAnswer,
    ErasureAnswer,
    FeedbackCounts,
    FeedbackItem,
    KeptSnapshot,
    Predictions,
    TableCounts,
)

T = TypeVar("T")
Rows = Any
"""What `Client.predict` takes."""
Facts = Mapping[str, Any] | Sequence[Mapping[str, Any]]
Keys = Any
"""A list of texts or integers, or a column or an array of them."""
Items = Iterable[FeedbackItem | Mapping[str, Any]]
RETRY_SECONDS = 30.0
AWAY = (httpx.ConnectError, httpx.ConnectTimeout)
"""After these, the request cannot have arrived."""
SNAPSHOTS, EVENTS = TypeAdapter(list[KeptSnapshot]), TypeAdapter(list[Event])
PROMOTIONS, PROMOTION = TypeAdapter(list[Promotion]), TypeAdapter(Promotion)
_backoff = wait_random_exponential(multiplier=0.2, max=5.0)


@dataclass(slots=True, eq=False)
class Call(Generic[T]):
    """One request to the service, and how its answer is read."""

    method: str
    path: str
    read: Callable[[Reply], T]
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, int | str] = field(default_factory=dict)
    needs: Callable[[Reply], Call[Any] | None] = lambda _: None
    """The call that must be made before the answer can be read, if there is one."""
    again: bool = True
    """Whether it may be sent again although the service may have carried it out."""

    def answer(self, response: Reply) -> T:
        """The answer in a response; raises the error that the response reports."""
        try:
            return self.read(checked(response))
        except (ValueError, KeyError) as error:
            where = f"{response.url}: this is not an answer of bento-selfheal"
            raise ServiceError(f"{where}: {error}", response.status_code) from error

    def policy(self, seconds: float) -> dict[str, Any]:
        """When to retry, as arguments for tenacity."""
        return {
            "retry": retry_if_exception(self._worth_it),
            "wait": _pause,
            "stop": stop_before_delay(seconds),
            "reraise": True,
        }

    def _worth_it(self, error: BaseException) -> bool:
        if not isinstance(error, ServiceUnavailable):
            return False
        cause = error.__cause__  # none when the service itself refused
        return self.again or cause is None or isinstance(cause, AWAY)


def predict_call(
    rows: Rows, facts: Facts | None = None, keys: Keys | None = None, *, known: KnownClasses
) -> Call[Predictions]:
    """Ask for predictions, about tables and arrays with the answer as a NumPy file."""
    body = body_of(rows, facts, keys)
    headers = {**body.headers, "Content-Type": body.kind}
    if body.kind in (NPY, ARROW):
        headers["Accept"] = NPY
        read, needs = partial(_from_file, known), partial(_classes_call, known)
        return Call("POST", "/predict", read, body.content, headers, needs=needs)
    return Call("POST", "/predict", _model(Predictions), body.content, headers)


def feedback_call(items: Items) -> Call[FeedbackCounts]:
    """Send labels."""
    given = [_item(item) if isinstance(item, FeedbackItem) else dict(item) for item in items]
    return _post("/feedback", {"items": given}, _model(FeedbackCounts))


def label_call(table: Any, *, keep_good: bool) -> Call[TableCounts]:
    """Send a table of labels."""
    body = table_body(table)
    headers = {"Content-Type": body.kind, **({BAD_ROWS_HEADER: REPORT} if keep_good else {})}
    return Call("POST", "/feedback", _model(TableCounts), body.content, headers)


def status_call() -> Call[dict[str, Any]]:
    """Ask for the status."""
    return Call("GET", "/status", lambda response: dict(response.json()))


def list_call(path: str, kind: TypeAdapter[list[T]], **params: int | None) -> Call[list[T]]:
    """Read a page of a list."""
    given = {name: value for name, value in params.items() if value is not None}
    return Call("GET", path, lambda r: kind.validate_json(r.content), params=given)


def begin_candidate_call(
    tag: str, ramp: list[float] | None, min_labels: int | None
) -> Call[dict[str, Any]]:
    """Begin a candidate; never sent twice."""
    given = {"tag": tag, "ramp": ramp, "min_labels": min_labels}
    body = {name: value for name, value in given.items() if value is not None}
    return _candidate_call("/candidates/begin", body)


def end_candidate_call(tag: str, *, promote: bool) -> Call[dict[str, Any]]:
    """Withdraw or promote a candidate; never sent twice."""
    path = "/candidates/promote" if promote else "/candidates/withdraw"
    return _candidate_call(path, {"tag": tag})


def _candidate_call(path: str, body: dict[str, Any]) -> Call[dict[str, Any]]:
    return _post(path, body, lambda r: dict(r.json()), again=False)


def candidates_call() -> Call[list[dict[str, Any]]]:
    """Ask for the candidates."""
    return Call("GET", "/candidates", lambda r: list(r.json()))


def rollback_call(version: int | None) -> Call[Promotion]:
    """Roll back; never sent twice."""
    body = {} if version is None else {"version": version}
    return _post("/rollback", body, lambda r: PROMOTION.validate_json(r.content), again=False)


def command_call(path: str, body: Any = None, *, again: bool = True) -> Call[CommandAnswer]:
    """Send a command to the runner."""
    return _post(path, body, _model(CommandAnswer), again=again)


def erase_call(
    key: str | int | None, prediction_id: str | None, token_name: str | None
) -> Call[ErasureAnswer]:
    """Erase a row; never sent twice, as the second answer would be that nothing is kept."""
    given = {"key": key, "prediction_id": prediction_id, "token": token_name}
    body = {name: value for name, value in given.items() if value is not None}
    return _post("/erase", body, _model(ErasureAnswer), again=False)


def _post(path: str, body: Any, read: Callable[[Reply], T], *, again: bool = True) -> Call[T]:
    content = b"" if body is None else json_body(body).content
    return Call("POST", path, read, content, {"Content-Type": JSON}, again=again)


def _model(kind: Any) -> Callable[[Reply], Any]:
    return lambda response: kind.model_validate_json(response.content)


def _classes_call(known: KnownClasses, response: Reply) -> Call[None] | None:
    """Ask for the classes that an answer refers to; None where they are known."""
    digest = known.missing(response.headers)
    if digest is None:
        return None
    return Call(
        "GET", CLASSES_PATH, lambda r: known.keep(digest, r.json()["classes"]),
        params={"digest": digest},
    )  # fmt: skip


def _from_file(known: KnownClasses, response: Reply) -> Predictions:
    """Read a NumPy file of probabilities; everything else is in the headers. Where these cannot
    hold it, the answer is JSON."""
    said = response.headers
    if REQUEST_HEADER not in said:
        return Predictions.model_validate_json(response.content)
    probabilities = npy.read(response.content)
    threshold, classes = float(said[THRESHOLD_HEADER]), known.of(said)
    return Predictions(
        prediction_ids=ids_of(said[REQUEST_HEADER], len(probabilities)),
        probabilities=probabilities.tolist(),
        decisions=[classes[i] for i in decide_classes(probabilities, threshold).tolist()],
        threshold=threshold,
        verified=said[VERIFIED_HEADER] == "true",
        model_version=int(said[VERSION_HEADER]),
        candidate=said.get(CANDIDATE_HEADER),
        **_review(said.get(REVIEW_HEADER), len(probabilities)),
    )


def _review(said: str | None, rows: int) -> dict[str, list[Any]]:
    """Which rows are looked at, as a header says it; nothing where all are."""
    if said is None:
        return {}
    told = json.loads(said)
    certain, asked = (
        np.unpackbits(np.frombuffer(b64decode(told[name]), dtype=np.uint8), count=rows).astype(bool)
        for name in ("certain", "asked")
    )
    chances = np.where(certain, 1.0, told["explored"])
    return {"review": asked.tolist(), "review_probability": chances.tolist()}


def unreachable(url: str, error: httpx.TransportError) -> ServiceUnavailable:
    """The error of a service that could not be reached."""
    return ServiceUnavailable(f"{url}: {type(error).__name__} {error}".rstrip())


def _pause(state: RetryCallState) -> float:
    """Seconds until the next attempt: what the service asks for, or growing pauses."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, ServiceUnavailable) else None
    return _backoff(state) if asked is None else asked


def _item(item: FeedbackItem) -> dict[str, Any]:
    """An item as JSON values; services of earlier releases know no ``retract``."""
    return item.model_dump(exclude_none=True, exclude=None if item.retract else {"retract"})
