"""Inputs as they came, beside the predictions that they were made from; for retraining."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, func, insert, select

from bento_selfheal.core.labels import NO_LABEL
from bento_selfheal.core.records import LoggedInput, PredictionRecord
from bento_selfheal.store import tables as t
from bento_selfheal.store.connections import Part, WriteLock

ROW_BYTES = 64
"""What a row takes besides its body."""
STEP_BYTES = 16_000_000
"""Most that one step of retention deletes: the labels of clients wait meanwhile."""


class LoggedInputs(Part):
    """The log of inputs. `Logs.append_predictions` writes it."""

    def labelled_inputs(
        self, after: int, since: float, until: float, limit: int
    ) -> tuple[list[LoggedInput], int]:
        """A page of inputs that have a label, oldest first, without their bodies.

        Args:
            after: The place up to which inputs were read; 0 for the first page.
            since: Only inputs that came at this time or later, in seconds since the epoch.
            until: Only inputs that came before this time.
            limit: How many inputs to look at, with and without labels.

        Returns:
            Those with labels, each with its newest one; and the place to read on from, which is
            ``after`` where there are no more.
        """
        i, f, newer = t.inputs.c, t.feedback.c, t.feedback.alias().c
        page = (
            select(i.seq, i.request, i.row, i.time, i.media_type)
            .where(i.seq > after, i.time >= since, i.time < until)
            .order_by(i.seq)
            .limit(limit)
            .subquery()
        )
        corrected = (
            select(newer.revision)
            .where(newer.request == f.request, newer.row == f.row, newer.revision > f.revision)
            .correlate(t.feedback)
            .exists()
        )
        labels = and_(f.request == page.c.request, f.row == page.c.row, ~corrected)
        both = page.outerjoin(t.feedback, labels)
        query = select(page, f.label, f.source, f.new_class).select_from(both).order_by(page.c.seq)
        with self._db.read() as c:
            rows = c.execute(query).all()
        found = [LoggedInput(**r._mapping) for r in rows if r.label not in (None, NO_LABEL)]
        return found, rows[-1].seq if rows else after

    def input_body(self, seq: int) -> bytes | None:
        """The body of the input at a place; None where retention has taken it."""
        with self._db.read() as c:
            body = c.execute(select(t.inputs.c.body).where(t.inputs.c.seq == seq)).scalar()
        return None if body is None else bytes(body)

    def retire_inputs(self, before: float, bytes_kept: int, limit: int) -> int:
        """Delete the oldest inputs, as `retire_predictions` does predictions.

        Args:
            before: Seconds since the epoch.
            bytes_kept: Bytes of inputs that may stay; none stay where it is not above 0.
            limit: Most inputs to delete.

        Returns:
            How many inputs were deleted.
        """
        with self._db.write(WriteLock.LOGS, lasting=False) as c:
            upto, oldest = _logged_bytes(c), c.execute(_oldest(limit)).all()

            def goes(r: Row[Any]) -> bool:
                too_much = upto - (r.upto - r.size) > bytes_kept
                enough = r is not oldest[0] and r.upto - oldest[0].upto > STEP_BYTES
                return bool((r.time < before or too_much) and not enough)

            gone = [r.seq for r in takewhile(goes, oldest)]
            last = gone[-1] if gone else 0
            return int(c.execute(delete(t.inputs).where(t.inputs.c.seq <= last)).rowcount)

    def logged_inputs(self) -> int:
        """Bytes of the inputs that the log holds."""
        with self._db.read() as c:
            oldest = c.execute(_oldest(1)).first()
            return 0 if oldest is None else _logged_bytes(c) - (oldest.upto - oldest.size)


def append_inputs(c: Connection, records: Sequence[PredictionRecord]) -> None:
    """Write the inputs that requests brought, inside the commit that writes the requests."""
    if any(r.inputs for r in records):
        c.execute(insert(t.inputs), list(_rows(records, _logged_bytes(c))))


def _rows(records: Sequence[PredictionRecord], upto: int) -> Iterator[dict[str, Any]]:
    for r in records:
        for row, one in enumerate(r.inputs):
            upto += len(one.body) + ROW_BYTES
            yield {
                "request": r.request, "row": row, "time": r.time, "upto": upto,
                "media_type": one.media_type, "body": one.body,
            }  # fmt: skip


def _oldest(limit: int) -> Any:
    """The statement for the oldest inputs, with the bytes of each as ``size``."""
    i = t.inputs.c
    size = (func.length(i.body) + ROW_BYTES).label("size")
    return select(i.seq, i.time, i.upto, size).order_by(i.seq).limit(limit)


def _logged_bytes(c: Connection) -> int:
    """Bytes up to the newest input; the count begins anew once all were deleted."""
    i = t.inputs.c
    return int(c.execute(select(i.upto).order_by(i.seq.desc()).limit(1)).scalar() or 0)
