"""The prediction log and the feedback log: written in one common order, and read in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, insert, literal, select, tuple_

from bento_selfheal.core.ids import issued_at
from bento_selfheal.core.records import (
    WAITS,
    FeedbackOutcome,
    FeedbackRecord,
    Horizon,
    PredictionRecord,
)
from bento_selfheal.store import codec
from bento_selfheal.store import tables as t
from bento_selfheal.store.connections import Part, WriteLock
from bento_selfheal.store.inputs import append_inputs
from bento_selfheal.store.keys import bound, chunks, index_keys

MOST_LABELS = 1024
"""Labels of one read: a promotion among them ends the step, and the rest is read again."""
IN_BOTH = 2
"""A key stands in the log and in the index of keys."""

Labels = dict[tuple[bytes, int], tuple[int, int]]
"""(request, row) → (label, revision); of an own key (key, `WAITS`)."""
NONE = (-1, -1)


@dataclass(frozen=True)
class FeedbackResult:
    """The outcome of each item of feedback, in the order in which the items were given."""

    outcomes: list[FeedbackOutcome]
    kept: dict[int, int]
    """For each conflicting item, by its index: the label that is kept."""
    expired: set[int] = field(default_factory=set)
    """Indices of accepted items whose prediction has been retired from the log."""
    waiting: set[int] = field(default_factory=set)
    """Indices of accepted items whose key has no prediction in the log yet."""
    rows: list[tuple[bytes, int]] = field(default_factory=list)
    """The request and the row that each item belongs to."""

    def part(self, start: int, end: int) -> FeedbackResult:
        """The outcomes of the items ``[start, end)``, with indices counted from ``start``."""
        return FeedbackResult(
            self.outcomes[start:end],
            {i - start: label for i, label in self.kept.items() if start <= i < end},
            {i - start for i in self.expired if start <= i < end},
            {i - start for i in self.waiting if start <= i < end},
            self.rows[start:end],
        )


class Logs(Part):
    """Both logs."""

    def append_predictions(self, records: Sequence[PredictionRecord]) -> None:
        """Append requests to the prediction log, with the inputs they hold, in one commit."""
        rows = [codec.prediction_row(r) for r in records]
        with self._db.write(WriteLock.LOGS, lasting=False) as c:
            upto = logged_bytes(c)
            for row in rows:
                upto += len(row["features"]) + len(row["probabilities"])
                upto += IN_BOTH * len(row["own_keys"] or b"")
                row["upto"] = upto
            c.execute(insert(t.predictions), rows)
            append_inputs(c, records)
            if any(r.keys for r in records):
                index_keys(c, records, c.execute(newest_place(t.predictions)).scalar_one())

    def add_feedback(self, records: Sequence[FeedbackRecord]) -> FeedbackResult:
        """Write labels; each counts once, however often it is sent. On disk on return.

        Raises:
            ValueError: A source holds a character that the store cannot keep; nothing was written.
        """
        with self._db.write(WriteLock.LOGS) as c:
            after = c.execute(newest_place(t.predictions)).scalar_one()
            labels = bound(c, records)
            result, fresh = _judge(labels, _newest_labels(c, labels), _horizon(c), after)
            if fresh:
                c.execute(insert(t.feedback), fresh)
        return result

    def read_log(
        self, predictions_from: int, feedback_from: int, limit: int = 64
    ) -> list[PredictionRecord | FeedbackRecord]:
        """The next entries of both logs after the two cursors, in their common order.

        A prediction stands at its own place, a label after the newest prediction that had been
        logged when the label was written. The entries are always a prefix of that order.
        """
        labels = min(limit * 16, MOST_LABELS)
        with self._db.read() as c:
            p, f = t.predictions.c, t.feedback.c
            rows = c.execute(
                select(t.predictions).where(p.seq > predictions_from).order_by(p.seq).limit(limit)
            ).all()
            query = select(t.feedback).where(f.seq > feedback_from).order_by(f.seq).limit(labels)
            if len(rows) == limit:
                query = query.where(f.after <= rows[-1].seq)
            answers = c.execute(query).all()
        if len(answers) == labels:
            rows = [r for r in rows if r.seq <= answers[-1].after]
        entries = [((r.seq, 0, 0), codec.prediction(r)) for r in rows]
        entries += [((r.after, 1, r.seq), codec.feedback(r)) for r in answers]  # type: ignore[misc]
        return [entry for _, entry in sorted(entries, key=lambda pair: pair[0])]

    def predictions_of(self, requests: set[bytes]) -> dict[bytes, PredictionRecord]:
        """Logged predictions by request key; requests that are not in the log are left out."""
        found: dict[bytes, PredictionRecord] = {}
        with self._db.read() as c:
            for part in chunks(sorted(requests)):
                query = select(t.predictions).where(t.predictions.c.request.in_(part))
                found.update((bytes(r.request), codec.prediction(r)) for r in c.execute(query))
        return found

    def rows_of(self, requests: set[bytes]) -> dict[bytes, int]:
        """How many rows each request has; requests that are not in the log are left out."""
        p = t.predictions.c
        found: dict[bytes, int] = {}
        with self._db.read() as c:
            for part in chunks(sorted(requests)):
                rows = c.execute(select(p.request, p.rows).where(p.request.in_(part)))
                found.update((bytes(r.request), r.rows) for r in rows)
        return found

    def newest_reviewed(self, limit: int) -> list[tuple[PredictionRecord, set[int]]]:
        """The newest requests of whose rows only some are looked at, newest first, each with the
        numbers of its rows that have a label."""
        p, f = t.predictions.c, t.feedback.c
        newest = select(t.predictions).where(p.review.is_not(None)).order_by(p.seq.desc())
        labelled = defaultdict[bytes, set[int]](set)
        with self._db.read() as c:
            records = [codec.prediction(r) for r in c.execute(newest.limit(limit))]
            for part in chunks(sorted(r.request for r in records)):
                for r in c.execute(select(f.request, f.row).where(f.request.in_(part))):
                    labelled[bytes(r.request)].add(r.row)
        return [(record, labelled[record.request]) for record in records]

    def horizon(self) -> Horizon | None:
        """Where the prediction log begins; None while nothing has been retired from it."""
        with self._db.read() as c:
            return _horizon(c)

    def ends(self) -> tuple[int, int, int]:
        """The newest places of predictions, feedback and commands."""
        with self._db.read() as c:
            newest = [
                int(c.execute(newest_place(log)).scalar_one())
                for log in (t.predictions, t.feedback, t.commands)
            ]
        return newest[0], newest[1], newest[2]


def newest_place(log: Any) -> Any:
    """The statement for the newest place of a log; 0 while it is empty."""
    return select(func.coalesce(func.max(log.c.seq), 0))


def logged_bytes(c: Connection) -> int:
    """Bytes of all requests ever logged."""
    p = t.predictions.c
    return int(c.execute(select(p.upto).order_by(p.seq.desc()).limit(1)).scalar() or 0)


def oldest_predictions(c: Connection, limit: int) -> Sequence[Any]:
    """The oldest requests of the log, with the bytes of each as ``size``."""
    p = t.predictions.c
    keys = func.coalesce(func.length(p.own_keys), 0)
    size = func.length(p.features) + func.length(p.probabilities) + IN_BOTH * keys
    columns = (p.seq, p.request, p.time, p.upto, size.label("size"), keys.label("key_bytes"))
    return c.execute(select(*columns).order_by(p.seq).limit(limit)).all()


def _horizon(c: Connection) -> Horizon | None:
    oldest = oldest_predictions(c, 1)
    # While the very first request is there nothing was retired, whatever the clocks say.
    if not oldest or oldest[0].upto == oldest[0].size:
        return None
    return Horizon(oldest[0].seq, issued_at(bytes(oldest[0].request)))


def _judge(
    records: Sequence[FeedbackRecord], newest: Labels, horizon: Horizon | None, after: int
) -> tuple[FeedbackResult, list[dict[str, Any]]]:
    """The outcome of each label, and the rows to write.

    Args:
        records: The labels.
        newest: The labels that are kept; gets each accepted one.
        horizon: Where the prediction log begins.
        after: The newest place of the prediction log.
    """
    result, fresh = FeedbackResult([], {}, rows=[(r.request, r.row) for r in records]), []
    for i, r in enumerate(records):
        names = _names(r)
        label, revision = max((newest.get(name, NONE) for name in names), key=_revision)
        if label == r.label:
            result.outcomes.append(FeedbackOutcome.KNOWN)
        elif revision >= 0 and not r.corrects:
            result.outcomes.append(FeedbackOutcome.CONFLICT)
            result.kept[i] = label
        else:
            newest |= dict.fromkeys(names, (r.label, revision + 1))
            result.outcomes.append(FeedbackOutcome.ACCEPTED)
            if r.row == WAITS:
                result.waiting.add(i)
            elif r.features is None and horizon is not None and horizon.took(r, after):
                result.expired.add(i)
            fresh.append(codec.feedback_row(r, revision + 1, after))
    return result, fresh


def _names(r: FeedbackRecord) -> list[tuple[bytes, int]]:
    """What a label counts once for: its row, and its key."""
    return [(r.request, r.row)] if r.key is None else [(r.request, r.row), (r.key, WAITS)]


def _revision(kept: tuple[int, int]) -> int:
    return kept[1]


def _newest_labels(c: Connection, labels: Sequence[FeedbackRecord]) -> Labels:
    """The labels that are kept for the rows and the keys of these."""
    f = t.feedback.c
    row, kept = (f.request.label("name"), f.row), (f.label, f.revision)
    by_key = (f.key.label("name"), literal(WAITS).label("row"))
    requests = {r.request for r in labels if r.key is None}
    # By key, labels of one request come one by one, and a request may have many rows.
    rows = {(r.request, r.row) for r in labels if r.key is not None}
    keys = {r.key for r in labels if r.key is not None}
    queries = [select(*row, *kept).where(f.request.in_(part)) for part in chunks(sorted(requests))]
    both = tuple_(f.request, f.row)
    queries += [select(*row, *kept).where(both.in_(part)) for part in chunks(sorted(rows))]
    queries += [select(*by_key, *kept).where(f.key.in_(part)) for part in chunks(sorted(keys))]
    newest: Labels = defaultdict(lambda: NONE)
    for query in queries:
        for r in c.execute(query):
            name = (bytes(r.name), r.row)
            newest[name] = max(newest[name], (r.label, r.revision), key=_revision)
    return dict(newest)
