"""Takes labels from requests: from who sends them to what became of each."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread
from starlette.responses import JSONResponse

from bento_selfheal.core.records import FeedbackOutcome
from bento_selfheal.errors import AccessDenied, InvalidInput, StoreError
from bento_selfheal.labelling.item import Rejected
from bento_selfheal.serving.feedback import FeedbackAnswer, FeedbackIntake
from bento_selfheal.serving.http.auth import ASKED_BY, NOBODY
from bento_selfheal.serving.http.fast_path import media_type
from bento_selfheal.serving.http.own_sources import own_sources
from bento_selfheal.serving.http.rate_limit import LabelRateLimit
from bento_selfheal.serving.http.replies import (
    Reply,
    as_reply,
    denied,
    rate_limited,
    refused,
    refused_bytes,
    unavailable,
)
from bento_selfheal.serving.reading.label_tables import LabelRows
from bento_selfheal.serving.worker_metrics import WorkerMeters
from bento_selfheal.telemetry import names
from bento_selfheal.telemetry.spans import Telemetry
from bento_selfheal.wire.messages import (
    BAD_ROWS_HEADER,
    REPORT,
    FeedbackCounts,
    RejectedRow,
    TableCounts,
)

FEEDBACK_THREADS = 16
"""Requests of a worker whose labels wait for the store at a time; the threads that answer operators
are others, so that labels in plenty hold up no status."""


class LabelTaker:
    """Answers `/feedback`.

    Args:
        intake: Checks items and makes them durable.
        rate_limit: How many labels a source or a token may send.
        telemetry: Records spans.
        meters: Counts what became of the items.
        most: Most rows of one table.
        listed: By token, the sources that it may name; one that is not there may name any.
    """

    def __init__(
        self,
        intake: FeedbackIntake,
        rate_limit: LabelRateLimit,
        telemetry: Telemetry,
        meters: WorkerMeters,
        most: int,
        listed: Mapping[str, Sequence[str]],
    ) -> None:
        self._intake = intake
        self._rate_limit = rate_limit
        self._telemetry = telemetry
        self._meters = meters
        self._most = most
        self._listed = listed
        limiter = anyio.CapacityLimiter(FEEDBACK_THREADS)
        self._in_thread = functools.partial(anyio.to_thread.run_sync, limiter=limiter)

    async def take(
        self, items: Sequence[Any], rejected: list[Rejected] | None = None
    ) -> FeedbackCounts | JSONResponse:
        """Keep items that came as one request; what became of them, or why they are refused.

        Args:
            items: As `FeedbackItem` or `LabelItem`.
            rejected: Gets malformed items, by their place among these; without it, one refuses all.
        """
        with self._telemetry.span(names.FEEDBACK, {names.ROWS: len(items)}) as span:
            try:
                if (token := ASKED_BY.get()) != NOBODY:
                    own_sources(items, token, self._listed)
                limited = await self._in_thread(self._rate_limit.take, items, token)
                if limited is not None:
                    return rate_limited(limited)
                answer = await self._in_thread(
                    self._intake.accept, items, self._telemetry.traceparent(), token, rejected
                )
            except InvalidInput as error:
                return refused(error)
            except AccessDenied as error:
                return denied(error)
            except StoreError as error:
                return unavailable(error)
            span.set_attributes({f"{names.ITEMS}.{k}": v for k, v in answer.counts.items()})
        self._meters.feedback({k.value: v for k, v in answer.counts.items()})
        return _counts(answer)

    async def take_table(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """Keep the labels of a table; by its row numbers what became of them."""
        bad: list[Rejected] | None = [] if headers.get(BAD_ROWS_HEADER) == REPORT else None
        try:
            rows = await self._in_thread(
                LabelRows, media_type(headers), body, self._most, ASKED_BY.get(), bad
            )
        except InvalidInput as error:
            return refused_bytes(error)
        late: list[Rejected] | None = None if bad is None else []
        found: Any = _counts(FeedbackAnswer())
        if rows.items:  # else all of them are bad
            found = await self.take(rows.items, late)
        if isinstance(found, JSONResponse):
            return as_reply(found)
        return Reply(_of_table(found, rows, bad or [], late or []).model_dump_json().encode())


def _counts(answer: FeedbackAnswer) -> FeedbackCounts:
    return FeedbackCounts(
        accepted=answer.counts[FeedbackOutcome.ACCEPTED],
        already_known=answer.counts[FeedbackOutcome.KNOWN],
        unknown=answer.counts[FeedbackOutcome.UNKNOWN],
        unmatched=answer.unmatched,
        waiting=answer.waiting,
        in_conflict=answer.counts[FeedbackOutcome.CONFLICT],
        unknown_ids=answer.unknown,
        conflicts=answer.conflicts,
    )


def _of_table(
    found: FeedbackCounts, rows: LabelRows, bad: list[Rejected], late: list[Rejected]
) -> TableCounts:
    """The answer with the numbers of the table's rows, of which some were not among the items."""
    conflicts = [{**one, "item": rows.numbers[one["item"]]} for one in found.conflicts]
    told = [RejectedRow(item=r.item, reason=r.reason) for r in bad]
    told += [RejectedRow(item=rows.numbers[r.item], reason=r.reason) for r in late]
    told.sort(key=lambda row: row.item)
    fields = found.model_dump() | {"conflicts": conflicts}
    return TableCounts(**fields, rejected=told)
