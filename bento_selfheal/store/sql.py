"""The store in SQL, through SQLAlchemy: SQLite here, every statement portable."""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, Row, create_engine, event, func, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from ..errors import CommandError, LeaseLost, PromotionMoved, StoreError
from ..records import (
    Command,
    Event,
    FeedbackOutcome,
    FeedbackRecord,
    Phase,
    PredictionRecord,
    Promotion,
    PromotionKind,
    Snapshot,
)
from . import tables as t

BUSY_SECONDS = 30


@dataclass(frozen=True)
class FeedbackResult:
    """What became of each item, in the order in which they were given."""

    outcomes: list[FeedbackOutcome]
    kept: dict[int, int]
    """For each conflicting item, by its place: the label that is kept."""


OPERATING_POINT = "operating_point"


@dataclass
class Checkpoint:
    """All that one step of the runner changes; written at once or not at all."""

    state: bytes
    status: dict[str, Any]
    snapshots: list[Snapshot] = field(default_factory=list)
    """New ones, and ones whose figures have changed."""
    dropped: list[int] = field(default_factory=list)
    """Versions that left the model store."""
    promotions: list[Promotion] = field(default_factory=list)
    after_promotion: int = 0
    """The promotion that the step started from; another one since voids the step."""
    events: list[Event] = field(default_factory=list)
    operating_point: str = ""
    """As JSON, for the workers; empty while it is as before."""


class SqlStore:
    """Both logs, promotions, snapshots, events, the runner's lease and checkpoint.

    Safe to share between threads and processes. Writers are serialised, so places in a log
    become visible in their order. A commit is on disk when the call returns.

    Args:
        url: SQLAlchemy URL, e.g. ``sqlite:////var/lib/selfheal/selfheal.db``.

    Raises:
        StoreError: The store cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self._engine = create_engine(url)
        if self._engine.dialect.name == "sqlite":
            _prepare_sqlite(self._engine)

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    # -- meta ------------------------------------------------------------------------------

    def create(self) -> None:
        """Make the tables where they are missing, and the secret that signs prediction ids."""
        with self._write() as c:
            t.metadata.create_all(c)
            known = {r.key: r.value for r in c.execute(select(t.meta.c.key, t.meta.c.value))}
            fresh = {
                "schema": str(t.SCHEMA_VERSION),
                "secret": secrets.token_hex(32),
                "store_id": secrets.token_hex(3),
            }
            missing = [{"key": k, "value": v} for k, v in fresh.items() if k not in known]
            if missing:
                c.execute(insert(t.meta), missing)
            if int(known.get("schema", t.SCHEMA_VERSION)) != t.SCHEMA_VERSION:
                raise StoreError(
                    f"{self._engine.url!r} has schema {known['schema']}, "
                    f"this release works with {t.SCHEMA_VERSION}"
                )

    def meta(self, key: str) -> str | None:
        """A fact about the store itself."""
        with self._read() as c:
            return c.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar()

    def set_meta(self, key: str, value: str) -> None:
        """Note a fact about the store itself."""
        with self._write() as c:
            _put_meta(c, key, value)

    # -- the two logs ----------------------------------------------------------------------

    def append_predictions(self, records: Sequence[PredictionRecord]) -> None:
        """Group commit of the prediction log."""
        with self._write() as c:
            c.execute(
                insert(t.predictions),
                [
                    {
                        "request": r.request,
                        "rows": len(r.probabilities),
                        "version": r.version,
                        "time": r.time,
                        "features": _pack(r.features),
                        "probabilities": _pack(r.probabilities),
                    }
                    for r in records
                ],
            )

    def add_feedback(self, records: Sequence[FeedbackRecord]) -> FeedbackResult:
        """Write labels; each counts once however often it is sent. Durable on return."""
        outcomes: list[FeedbackOutcome] = []
        kept: dict[int, int] = {}
        fresh: list[dict[str, Any]] = []
        with self._write() as c:
            after = c.execute(select(func.coalesce(func.max(t.predictions.c.seq), 0))).scalar_one()
            newest = _newest_labels(c, {r.request for r in records})
            for i, r in enumerate(records):
                known = newest.get((r.request, r.row))
                if known is not None and known[0] == r.label:
                    outcomes.append(FeedbackOutcome.KNOWN)
                    continue
                if known is not None and not r.corrects:
                    outcomes.append(FeedbackOutcome.CONFLICT)
                    kept[i] = known[0]
                    continue
                revision = known[1] + 1 if known else 0
                newest[(r.request, r.row)] = (r.label, revision)
                outcomes.append(FeedbackOutcome.ACCEPTED)
                fresh.append(_feedback_row(r, revision, after))
            if fresh:
                c.execute(insert(t.feedback), fresh)
        return FeedbackResult(outcomes, kept)

    def read_log(
        self, predictions_from: int, feedback_from: int, limit: int = 64
    ) -> list[PredictionRecord | FeedbackRecord]:
        """The next entries of both logs behind the two cursors, in their common order.

        A prediction stands at its own place, a label behind the newest prediction that was
        there when it was written. What is returned is always a prefix of that order.
        """
        labels = limit * 16
        with self._read() as c:
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
        entries = [((r.seq, 0, 0), _prediction(r)) for r in rows]
        entries += [((r.after, 1, r.seq), _feedback(r)) for r in answers]  # type: ignore[misc]
        return [entry for _, entry in sorted(entries, key=lambda pair: pair[0])]

    def predictions_of(self, requests: set[bytes]) -> dict[bytes, PredictionRecord]:
        """Logged predictions by request key; ones that are not in the log are missing."""
        found: dict[bytes, PredictionRecord] = {}
        with self._read() as c:
            for part in _chunks(sorted(requests), 500):
                query = select(t.predictions).where(t.predictions.c.request.in_(part))
                found.update((bytes(r.request), _prediction(r)) for r in c.execute(query))
        return found

    def ends(self) -> tuple[int, int, int]:
        """The newest places of predictions, feedback and commands."""
        with self._read() as c:
            newest = [
                int(c.execute(select(func.coalesce(func.max(log.c.seq), 0))).scalar_one())
                for log in (t.predictions, t.feedback, t.commands)
            ]
        return newest[0], newest[1], newest[2]

    # -- what operators and pages read --------------------------------------------------------

    def snapshots(self, *, kept_only: bool = True) -> list[Snapshot]:
        """Snapshots, oldest first; with ``kept_only`` those still in the model store."""
        query = select(t.snapshots).order_by(t.snapshots.c.version)
        if kept_only:
            query = query.where(t.snapshots.c.kept)
        with self._read() as c:
            return [_snapshot(r) for r in c.execute(query)]

    def newest_promotion(self) -> Promotion | None:
        """What is to be served now."""
        with self._read() as c:
            row = c.execute(
                select(t.promotions).order_by(t.promotions.c.seq.desc()).limit(1)
            ).first()
        return _promotion(row) if row else None

    def promotions(self, after: int = 0, limit: int = 1000) -> list[Promotion]:
        """The promotion log behind a place, oldest first."""
        query = (
            select(t.promotions)
            .where(t.promotions.c.seq > after)
            .order_by(t.promotions.c.seq)
            .limit(limit)
        )
        with self._read() as c:
            return [_promotion(r) for r in c.execute(query)]

    def events(self, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events behind a place, oldest first."""
        query = select(t.events).where(t.events.c.seq > after).order_by(t.events.c.seq).limit(limit)
        with self._read() as c:
            return [Event(r.kind, r.detail, r.time, r.batch, r.seq) for r in c.execute(query)]

    def add_event(self, happened: Event) -> None:
        """Note an event outside a step of the runner."""
        with self._write() as c:
            c.execute(insert(t.events), [_event_row(happened)])

    def promote(self, promotion: Promotion, happened: Event) -> None:
        """Write an operator's promotion, outside a step of the runner.

        Raises:
            CommandError: The snapshot is not kept any more.
        """
        with self._write() as c:
            s = t.snapshots.c
            kept = c.execute(select(s.kept).where(s.version == promotion.version)).scalar()
            if kept is False:
                raise CommandError(f"version: snapshot {promotion.version} is not kept any more")
            c.execute(insert(t.promotions), [_promotion_row(promotion)])
            c.execute(insert(t.events), [_event_row(happened)])

    def take_over(
        self,
        clean: Snapshot,
        promotion: Promotion,
        happened: Event,
        *,
        status: dict[str, Any],
        facts: dict[str, str],
    ) -> None:
        """Let a package take over, at once for all who look: its clean snapshot is promoted,
        no older one is kept, the runner's checkpoint is void, and the facts say where it begins.
        """
        with self._write() as c:
            c.execute(
                update(t.snapshots).where(t.snapshots.c.version < clean.version).values(kept=False)
            )
            c.execute(insert(t.snapshots), [_snapshot_row(clean)])
            c.execute(insert(t.promotions), [_promotion_row(promotion)])
            c.execute(insert(t.events), [_event_row(happened)])
            for key, value in facts.items():
                _put_meta(c, key, value)
            _begin(c, status)

    # -- commands -----------------------------------------------------------------------------

    def add_command(self, kind: str, argument: str | None = None) -> int:
        """Ask the runner for something; returns the place of the command."""
        with self._write() as c:
            result = c.execute(
                insert(t.commands).values(kind=kind, argument=argument, time=time.time())
            )
            return int(result.inserted_primary_key[0])  # type: ignore[index]

    def commands(self, after: int) -> list[Command]:
        """Commands behind a place, oldest first."""
        query = select(t.commands).where(t.commands.c.seq > after).order_by(t.commands.c.seq)
        with self._read() as c:
            return [Command(r.kind, r.time, r.seq, r.argument) for r in c.execute(query)]

    # -- the runner ---------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What the runner last showed of itself; empty before its first step."""
        with self._read() as c:
            return dict(c.execute(select(t.runner.c.status)).scalar() or {})

    def state(self) -> bytes | None:
        """The runner's checkpoint."""
        with self._read() as c:
            return c.execute(select(t.runner.c.state)).scalar()

    def begin_status(self, status: dict[str, Any]) -> None:
        """Show where a deployment starts, before any runner leads; no checkpoint holds for it."""
        with self._write() as c:
            _begin(c, status)

    def acquire_lease(self, owner: str, seconds: float) -> int | None:
        """Take or renew the lease; the fencing token, or None while another one leads."""
        now = time.time()
        with self._write() as c:
            row = c.execute(select(t.runner.c.owner, t.runner.c.token, t.runner.c.until)).first()
            if row is None:
                raise StoreError("the store has no package yet; deploy one first")
            if row.owner != owner and row.until > now:
                return None
            token = row.token if row.owner == owner else row.token + 1
            c.execute(update(t.runner).values(owner=owner, token=token, until=now + seconds))
            return int(token)

    def lease_until(self) -> float | None:
        """When the leader's lease runs out, in seconds since the epoch."""
        with self._read() as c:
            return c.execute(select(t.runner.c.until)).scalar()

    def release_lease(self, owner: str) -> None:
        """Let a successor lead at once."""
        with self._write() as c:
            c.execute(update(t.runner).where(t.runner.c.owner == owner).values(until=0.0))

    def show_status(self, token: int, status: dict[str, Any]) -> None:
        """Show the runner's status between two checkpoints.

        Raises:
            LeaseLost: Another runner leads now.
        """
        with self._write() as c:
            _fenced(c, token, {"status": status})

    def commit(self, token: int, checkpoint: Checkpoint) -> int:
        """Write one step of the runner; returns the place of the newest promotion.

        Raises:
            LeaseLost: Another runner leads now; nothing was written.
            PromotionMoved: An operator's promotion came first; nothing was written.
        """
        with self._write() as c:
            _fenced(c, token, {"state": checkpoint.state, "status": checkpoint.status})
            place = select(func.coalesce(func.max(t.promotions.c.seq), 0))
            if c.execute(place).scalar_one() != checkpoint.after_promotion:
                raise PromotionMoved("an operator changed what serves during this step")
            for snapshot in checkpoint.snapshots:
                values = _snapshot_row(snapshot)
                done = c.execute(
                    update(t.snapshots)
                    .where(t.snapshots.c.version == snapshot.version)
                    .values(values)
                )
                if done.rowcount == 0:
                    c.execute(insert(t.snapshots).values(values))
            if checkpoint.dropped:
                gone = t.snapshots.c.version.in_(checkpoint.dropped)
                c.execute(update(t.snapshots).where(gone).values(kept=False))
            if checkpoint.promotions:
                c.execute(insert(t.promotions), [_promotion_row(p) for p in checkpoint.promotions])
            if checkpoint.operating_point:
                _put_meta(c, OPERATING_POINT, checkpoint.operating_point)
            if checkpoint.events:
                c.execute(insert(t.events), [_event_row(e) for e in checkpoint.events])
            return int(c.execute(place).scalar_one())

    # -- connections --------------------------------------------------------------------------

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        """One consistent view of all tables."""
        try:
            with self._engine.begin() as c:
                yield c
        except SQLAlchemyError as error:
            raise StoreError(f"cannot read the store: {_brief(error)}") from error

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """One write at a time, over all processes."""
        try:
            with self._engine.connect().execution_options(writes=True) as c, c.begin():
                yield c
        except SQLAlchemyError as error:
            raise StoreError(f"cannot write to the store: {_brief(error)}") from error


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        # SQLAlchemy emits BEGIN itself; the driver's own would hide which kind it is.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={BUSY_SECONDS * 1000}",
            "journal_mode=WAL",
            "synchronous=FULL",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A write takes its lock at the start: a later upgrade would fail instead of waiting.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _brief(error: SQLAlchemyError) -> str:
    """The database's own words, without the statement and its parameters."""
    return str(getattr(error, "orig", None) or error)


def _pack(values: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def _unpack(blob: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)


def _answers(flat: np.ndarray[Any, np.dtype[np.float32]], rows: int) -> Any:
    """One number a row of two classes, one column a class of more."""
    return flat if len(flat) == rows else flat.reshape(rows, -1)


def _begin(c: Connection, status: dict[str, Any]) -> None:
    if c.execute(update(t.runner).values(state=None, status=status)).rowcount == 0:
        c.execute(
            insert(t.runner).values(id=1, owner="", token=0, until=0.0, state=None, status=status)
        )


def _put_meta(c: Connection, key: str, value: str) -> None:
    done = c.execute(update(t.meta).where(t.meta.c.key == key).values(value=value))
    if done.rowcount == 0:
        c.execute(insert(t.meta).values(key=key, value=value))


def _fenced(c: Connection, token: int, values: dict[str, Any]) -> None:
    done = c.execute(update(t.runner).where(t.runner.c.token == token).values(values))
    if done.rowcount != 1:
        raise LeaseLost(f"the lease with token {token} has passed to another runner")


def _chunks(items: list[bytes], size: int) -> Iterator[list[bytes]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _newest_labels(c: Connection, requests: set[bytes]) -> dict[tuple[bytes, int], tuple[int, int]]:
    """(request, row) → (label, revision) as kept now."""
    f = t.feedback.c
    newest: dict[tuple[bytes, int], tuple[int, int]] = defaultdict(lambda: (-1, -1))
    for part in _chunks(sorted(requests), 500):
        query = select(f.request, f.row, f.label, f.revision).where(f.request.in_(part))
        for r in c.execute(query):
            key = (bytes(r.request), r.row)
            newest[key] = max(newest[key], (r.label, r.revision), key=lambda pair: pair[1])
    return dict(newest)


def _feedback_row(r: FeedbackRecord, revision: int, after: int) -> dict[str, Any]:
    return {
        "request": r.request,
        "row": r.row,
        "revision": revision,
        "label": r.label,
        "time": r.time,
        "source": r.source,
        "features": None if r.features is None else _pack(r.features),
        "trace": r.trace,
        "after": after,
    }


def _prediction(r: Row[Any]) -> PredictionRecord:
    return PredictionRecord(
        request=bytes(r.request),
        features=_unpack(r.features).reshape(r.rows, -1),
        probabilities=_answers(_unpack(r.probabilities), r.rows),
        version=r.version,
        time=r.time,
        seq=r.seq,
    )


def _feedback(r: Row[Any]) -> FeedbackRecord:
    return FeedbackRecord(
        request=bytes(r.request),
        row=r.row,
        label=r.label,
        time=r.time,
        source=r.source,
        features=None if r.features is None else _unpack(r.features),
        corrects=r.revision > 0,
        trace=r.trace,
        after=r.after,
        seq=r.seq,
    )


def _snapshot_row(s: Snapshot) -> dict[str, Any]:
    return {**asdict(s), "phase": s.phase.value, "kept": True}


def _snapshot(r: Row[Any]) -> Snapshot:
    values = {k: v for k, v in r._mapping.items() if k != "kept"}
    return replace(Snapshot(**values), phase=Phase(r.phase))


def _promotion_row(p: Promotion) -> dict[str, Any]:
    row = {**asdict(p), "kind": p.kind.value}
    del row["seq"]
    return row


def _promotion(r: Row[Any]) -> Promotion:
    return replace(Promotion(**r._mapping), kind=PromotionKind(r.kind))


def _event_row(e: Event) -> dict[str, Any]:
    row = asdict(e)
    del row["seq"]
    return row
