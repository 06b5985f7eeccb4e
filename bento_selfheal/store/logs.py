"""The prediction log and the feedback log: written in one common order, and read in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, insert, select, text

from bento_selfheal.core.ids import issued_at
from bento_selfheal.core.labels import NO_LABEL
from bento_selfheal.core.log.horizon import Horizon
from bento_selfheal.core.records import (
    WAITS,
    FeedbackOutcome,
    FeedbackRecord,
    PredictionRecord,
)
from bento_selfheal.store import codec
from bento_selfheal.store import tables as t
from bento_selfheal.store.connections import WriteLock
from bento_selfheal.store.inputs import append_inputs
from bento_selfheal.store.keys import Kept, Labels, bound, chunks, log_keys
from bento_selfheal.store.labels.conflicts import (
    MOST_REVISIONS,
    ConflictRule,
    Standing,
    names_of,
)
from bento_selfheal.store.labels.key_index import index_part
from bento_selfheal.store.labels.requests import RequestQueries
from bento_selfheal.store.labels.retries import find_retried, note_requests
from bento_selfheal.store.labels.same_row import new_class_of, on_labelled_rows

MOST_LABELS = 1024
"""Labels of one read: a promotion among them ends the step, and the rest is read again."""
MOST_BYTES = 16_000_000
"""Of the requests of one read; in memory they may take twice as much."""
IN_BOTH = 2
"""A key stands in the log and in the index of keys."""

LABEL = [column.name for column in t.feedback.columns if column is not t.feedback.c.seq]
ADD_LABEL = text(
    f'''insert into feedback ("{'", "'.join(LABEL)}") values (:{", :".join(LABEL)})'''  # noqa: S608
)
"""As text: what SQLAlchemy does for each value takes as long as the database."""
NONE = (NO_LABEL, -1)


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
    full: set[int] = field(default_factory=set)
    """Indices of items whose row has had as many labels as one may have."""
    rows: list[tuple[bytes, int]] = field(default_factory=list)
    """The request and the row that each item belongs to."""

    def part(self, start: int, end: int) -> FeedbackResult:
        """The outcomes of the items ``[start, end)``, with indices counted from ``start``."""
        return FeedbackResult(
            self.outcomes[start:end],
            {i - start: label for i, label in self.kept.items() if start <= i < end},
            {i - start for i in self.expired if start <= i < end},
            {i - start for i in self.waiting if start <= i < end},
            {i - start for i in self.full if start <= i < end},
            self.rows[start:end],
        )


class Logs(RequestQueries):
    """Both logs.

    Attributes:
        rule: Which of several labels of one row stands.
    """

    rule = ConflictRule()

    def append_predictions(self, records: Sequence[PredictionRecord]) -> None:
        """Append requests to the prediction log, with the inputs they hold, in one commit."""
        rows = [codec.prediction_row(r) for r in records]
        with self._db.write(WriteLock.LOGS, lasting=False) as c:
            upto = logged_bytes(c)
            retried = find_retried(c, records)
            for row, again in zip(rows, retried, strict=True):
                upto += len(row["features"]) + len(row["probabilities"])
                upto += IN_BOTH * len(row["own_keys"] or b"")
                row |= {"upto": upto, "retried": again or None}
            c.execute(insert(t.predictions), rows)
            append_inputs(c, records)
            if any(r.keys for r in records):
                last = c.execute(newest_place(t.predictions)).scalar_one()
                log_keys(c, records, last)
                note_requests(c, records, retried, last)

    def index_keys(self) -> int:
        """Index the keys of the oldest requests that wait for it; returns how many keys are left.

        Labels find their keys without it, but wait for it then.
        """
        with self._db.write(WriteLock.LOGS, lasting=False) as c:
            return index_part(c)

    def add_feedback(self, records: Sequence[FeedbackRecord]) -> FeedbackResult:
        """Write labels; each counts once, however often it is sent. On disk on return.

        Raises:
            ValueError: A source holds a character that the store cannot keep; nothing was written.
        """
        with self._db.write(WriteLock.LOGS) as c:
            after = c.execute(newest_place(t.predictions)).scalar_one()
            labels, kept = bound(c, records)
            placed = on_labelled_rows(c, labels)
            named = [r for r in records if r.row != WAITS]
            named += [now for now, before in zip(placed, labels, strict=True) if now is not before]
            kept |= _kept_by_request(c, named)
            standing = Standing(c, self.rule, placed, kept)
            result, fresh = _judge(placed, kept, _horizon(c), after, standing)
            if fresh:
                c.execute(ADD_LABEL, fresh)
            standing.write_votes()
        return result

    def new_class_of(self, request: bytes, row: int) -> str | None:
        """JSON of the class that a row has and the packaged model does not; None for any other."""
        with self._db.read() as c:
            return new_class_of(c, request, row)

    def read_log(
        self, predictions_from: int, feedback_from: int, limit: int = 64
    ) -> list[PredictionRecord | FeedbackRecord]:
        """The next entries of both logs after the two cursors, in their common order.

        A prediction stands at its own place, a label after the newest prediction that had been
        logged when the label was written. The entries are always a prefix of that order. Where
        requests are large they are fewer than the limit, down to one.
        """
        labels = min(limit * 16, MOST_LABELS)
        with self._db.read() as c:
            p, f = t.predictions.c, t.feedback.c
            limit = _fitting(c, predictions_from, limit)
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


def _fitting(c: Connection, after: int, limit: int) -> int:
    """How many of the next requests are read at once: as many as `MOST_BYTES` holds, or one."""
    p = t.predictions.c
    places = select(p.seq, p.upto).where(p.seq > after).order_by(p.seq).limit(limit)
    uptos = [r.upto for r in c.execute(places)]
    # How large the first one is, its own row says only; it is read in any case.
    return sum(upto - uptos[0] <= MOST_BYTES for upto in uptos) or limit


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
    records: Sequence[FeedbackRecord],
    newest: Labels,
    horizon: Horizon | None,
    after: int,
    standing: Standing,
) -> tuple[FeedbackResult, list[dict[str, Any]]]:
    """The outcome of each label, and the rows to write.

    Args:
        records: The labels.
        newest: The labels that are kept; gets each accepted one.
        horizon: Where the prediction log begins.
        after: The newest place of the prediction log.
        standing: Decides which of several labels stands.
    """
    result, fresh = FeedbackResult([], {}, rows=[(r.request, r.row) for r in records]), []
    for i, given in enumerate(records):
        names = names_of(given)
        kept = [newest[name] for name in names if name in newest]
        label, revision = max(kept, key=_revision) if kept else NONE
        r = standing.after(given, label, revision)
        full = r is not None and r.label != label and _is_full(r, revision)
        if r is None or full:
            known = given.label == label
            result.outcomes.append(FeedbackOutcome.KNOWN if known else FeedbackOutcome.CONFLICT)
            if not known:
                result.kept[i] = label
            if full:
                result.full.add(i)
            continue
        result.outcomes.append(FeedbackOutcome.ACCEPTED)
        if r.label == label:
            continue
        newest |= dict.fromkeys(names, (r.label, revision + 1))
        standing.wrote(r)
        if r.row == WAITS:
            result.waiting.add(i)
        elif r.features is None and horizon is not None and horizon.took(r, after):
            result.expired.add(i)
        fresh.append(codec.feedback_row(r, revision + 1, after))
    return result, fresh


def _is_full(r: FeedbackRecord, revision: int) -> bool:
    """Whether a row has had as many labels as one may have; the last may still be taken back."""
    return revision + 1 >= MOST_REVISIONS + (r.label == NO_LABEL)


def _revision(kept: tuple[int, int]) -> int:
    return kept[1]


def _kept_by_request(c: Connection, labels: Sequence[FeedbackRecord]) -> Labels:
    """The labels that are kept for the rows of these, which came by id or with their features."""
    f, kept = t.feedback.c, Kept()
    query = select(f.request, f.row, f.label, f.revision)
    for part in chunks(sorted({r.request for r in labels})):
        for r in c.execute(query.where(f.request.in_(part))):
            kept.add((bytes(r.request), r.row), r.label, r.revision)
    return kept.labels
