"""A client of the service, sync and async; it imports neither torch nor BentoML.

```python
with Client("http://localhost:3000") as client:
    answer = client.predict(rows, keys=["tx-1", "tx-2"])
    ...
    client.feedback([{"key": "tx-1", "label": 1}, {"key": "tx-2", "label": 0}])
```

Failed connections and the statuses 503 and 429 are retried for `retry_seconds`, after the pause
that `Retry-After` asks for. A label counts once, so feedback may be sent twice; `heal` and
`rollback` are sent again only when the first request cannot have arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import httpx
from tenacity import Retrying

from bento_selfheal.client.calls import (
    EVENTS,
    PROMOTIONS,
    RETRY_SECONDS,
    SNAPSHOTS,
    Call,
    Facts,
    Items,
    Keys,
    Rows,
    T,
    begin_candidate_call,
    candidates_call,
    command_call,
    end_candidate_call,
    erase_call,
    feedback_call,
    label_call,
    list_call,
    predict_call,
    rollback_call,
    status_call,
    unreachable,
)
from bento_selfheal.client.connection import TIMEOUT, address_of, headers_of
from bento_selfheal.client.known_classes import KnownClasses
from bento_selfheal.client.reply import Reply
from bento_selfheal.core.records import Event, Promotion
from bento_selfheal.wire.messages import (
    CommandAnswer,
    ErasureAnswer,
    FeedbackCounts,
    KeptSnapshot,
    Predictions,
    TableCounts,
)


class Client(AbstractContextManager["Client"]):
    """A client of one service.

    Args:
        url: Its address, e.g. ``http://localhost:3000``; or the ``url`` of a BentoML dependency,
            which is a local socket.
        timeout: Seconds that one attempt may take.
        retry_seconds: Seconds after which no further attempt begins; 0 makes one attempt.
        headers: Sent with every request.
        token: Bearer token; by default that of the variable BENTO_SELFHEAL_TOKEN.

    Raises:
        SettingsError: The URL cannot be read, or no header can carry the token.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        retry_seconds: float = RETRY_SECONDS,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        base, socket = address_of(url)
        self._http = httpx.Client(
            base_url=base,
            timeout=timeout,
            headers=headers_of(headers, token),
            verify=base.startswith("https:"),  # loading certificates is slow
            transport=httpx.HTTPTransport(uds=socket, verify=False) if socket else None,
        )
        self._known = KnownClasses()
        self._retry_seconds = retry_seconds

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def predict(
        self, rows: Rows, facts: Facts | None = None, keys: Keys | None = None
    ) -> Predictions:
        """Predict a batch of rows, or of the inputs of a network.

        Args:
            rows: A data frame of pandas or polars or a table of Arrow, with the columns by name, in
                any order; an array of NumPy or a tensor of torch, ``(n, features)`` or ``(n, …)``;
                lists in the order of the features, or dicts by name; an image of Pillow, or a list
                of them; a text, or a list of them. Tables are sent as Arrow streams and arrays as
                NumPy files, which is fastest.
            facts: Of the inputs of a network, by name: a dict for each input, or one for all.
            keys: Your own key of each row, a text or an integer, by which its label may come; a
                list, a column or an array. Each once. With a few hundred of them and an array,
                JSON is sent; in a table they are a column.

        Raises:
            InvalidInput: The service refused a value; the message names row, field and value.
            AccessDenied: The token is missing, unknown or of another role; any call may raise it.
            ServiceUnavailable: No attempt reached the service; any call may raise it.
            ServiceError: The service failed; any call may raise it.
        """
        return self._send(predict_call(rows, facts, keys, known=self._known))

    def feedback(self, items: Items) -> FeedbackCounts:
        """Send labels. Accepted ones are on disk when this returns; each counts once.

        Raises:
            InvalidInput: An item is malformed; none of the items was kept.
        """
        return self._send(feedback_call(items))

    def label(self, table: Any, *, keep_good: bool = False) -> TableCounts:
        """Send a table of labels, which is faster than `feedback`; each label counts once.

        Args:
            table: Of pandas, polars or Arrow, with the columns ``label`` and ``key`` or
                ``prediction_id``, and where you have them ``source``, ``corrects`` and ``time``.
            keep_good: Keep the good rows where some are bad; ``rejected`` of the answer names
                these.

        Raises:
            InvalidInput: It is no such table, or a row is bad and was not to be left out; none of
                the labels was kept.
        """
        return self._send(label_call(table, keep_good=keep_good))

    def status(self) -> dict[str, Any]:
        """The status of the service."""
        return self._send(status_call())

    def snapshots(self) -> list[KeptSnapshot]:
        """The snapshots that a rollback can restore."""
        return self._send(list_call("/snapshots", SNAPSHOTS))

    def promotions(
        self, after: int | None = None, limit: int = 1000, before: int | None = None
    ) -> list[Promotion]:
        """The newest promotions, oldest first: what served when, and why.

        Args:
            after: Only those after this place of the log, the oldest of them.
            limit: Most to return, at most 10,000.
            before: Only those before this place of the log.
        """
        page = {"after": after, "before": before, "limit": limit}
        return self._send(list_call("/promotions", PROMOTIONS, **page))

    def events(
        self, after: int | None = None, limit: int = 1000, before: int | None = None
    ) -> list[Event]:
        """The newest events, oldest first.

        Args:
            after: Only those after this place of the log, the oldest of them.
            limit: Most to return, at most 10,000.
            before: Only those before this place of the log.
        """
        page = {"after": after, "before": before, "limit": limit}
        return self._send(list_call("/events", EVENTS, **page))

    def rollback(self, version: int | None = None) -> Promotion:
        """Serve an older snapshot; by default the one that served before.

        Raises:
            CommandError: There is no such snapshot or nothing older, or it serves already.
        """
        return self._send(rollback_call(version))

    def begin_candidate(
        self, tag: str, *, ramp: list[float] | None = None, min_labels: int | None = None
    ) -> dict[str, Any]:
        """Let a packaged model earn its place.

        Args:
            tag: Its tag in the service's model store.
            ramp: Percent of the requests that it answers, step by step; the last one is 100.
            min_labels: Labelled rows that each step takes at least.

        Raises:
            CommandError: There is no such package, it does not fit, or it is a candidate already.
        """
        return self._send(begin_candidate_call(tag, ramp, min_labels))

    def end_candidate(self, tag: str, *, promote: bool = False) -> dict[str, Any]:
        """Withdraw a candidate, or promote it whatever the evidence.

        Raises:
            CommandError: There is no such candidate on its ramp.
        """
        return self._send(end_candidate_call(tag, promote=promote))

    def candidates(self) -> list[dict[str, Any]]:
        """The candidates, oldest first, with their evidence."""
        return self._send(candidates_call())

    def pause(self) -> CommandAnswer:
        """Stop the service from healing, promoting and rolling back by itself until `resume`.

        An operator's own heal, rollback and forget still work.
        """
        return self._send(command_call("/pause"))

    def observe(self) -> CommandAnswer:
        """Keep healing, but promote nothing."""
        return self._send(command_call("/observe"))

    def resume(self) -> CommandAnswer:
        """Resume heals and promotions."""
        return self._send(command_call("/resume"))

    def heal(self) -> CommandAnswer:
        """Heal once on the labels received so far."""
        return self._send(command_call("/heal", again=False))

    def forget(self, source: str) -> CommandAnswer:
        """Quarantine a source of labels and remove what it taught."""
        return self._send(command_call("/forget", {"source": source}))

    def thresholds(self, **changes: float | None) -> CommandAnswer:
        """Change some of the thresholds and costs in force; what is left out stays.

        Raises:
            InvalidInput: There is no such threshold, or a value does not fit.
        """
        return self._send(command_call("/thresholds", changes))

    def erase(
        self,
        key: str | int | None = None,
        *,
        prediction_id: str | None = None,
        token_name: str | None = None,
    ) -> ErasureAnswer:
        """Erase a row, its labels and whatever was trained on it.

        Args:
            key: Its own key.
            prediction_id: Or the id of a prediction of it.
            token_name: Name of the token that the key was sent with; without one, that of this
                client's.

        Raises:
            UnknownRow: Nothing is kept of such a row; also where it was erased before.
        """
        return self._send(erase_call(key, prediction_id, token_name))

    def release(self, source: str) -> CommandAnswer:
        """Lift the quarantine of a source; its later labels are learned from."""
        return self._send(command_call("/release", {"source": source}))

    def _send(self, call: Call[T]) -> T:
        answer: T = Retrying(**call.policy(self._retry_seconds))(self._once, call)
        return answer

    def _once(self, call: Call[T]) -> T:
        try:
            response = self._http.request(
                call.method, call.path,
                content=call.content, headers=call.headers, params=call.params,
            )  # fmt: skip
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error
        reply = Reply(str(response.url), response.status_code, response.headers, response.content)
        if (first := call.needs(reply)) is not None:
            self._once(first)
        return call.answer(reply)
