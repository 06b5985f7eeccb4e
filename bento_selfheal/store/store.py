"""The store in SQL, through SQLAlchemy: every statement runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import math
import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Table,
    and_,
    delete,
    func,
    insert,
    inspect,
    not_,
    or_,
    select,
    text,
    update,
)

from bento_selfheal.core.ids import issued_at
from bento_selfheal.core.records import (
    Command,
    Event,
    FeedbackOutcome,
    FeedbackRecord,
    Horizon,
    Measurement,
    Phase,
    PredictionRecord,
    Promotion,
    Snapshot,
)
from bento_selfheal.core.transitions import LEASES, Asker, Grant, lease_at, may_serve
from bento_selfheal.errors import CommandError, LeaseLost, NewerRelease, PromotionMoved, StoreError
from bento_selfheal.store import codec
from bento_selfheal.store import tables as t
from bento_selfheal.store.connections import Connections, Turn

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True)
class FeedbackResult:
    """What became of each item, in the order in which they were given."""

    outcomes: list[FeedbackOutcome]
    kept: dict[int, int]
    """For each conflicting item, by its place: the label that is kept."""
    expired: set[int] = field(default_factory=set)
    """Places of accepted items whose prediction retention has taken."""

    def part(self, start: int, end: int) -> FeedbackResult:
        """What became of the items at these places, counted from the first of them."""
        return FeedbackResult(
            self.outcomes[start:end],
            {i - start: label for i, label in self.kept.items() if start <= i < end},
            {i - start for i in self.expired if start <= i < end},
        )


OPERATING_POINT = "operating_point"
# Built once: every worker asks ten times a second.
_NEWEST_PROMOTION = select(t.promotions).order_by(t.promotions.c.seq.desc()).limit(1)
_POINT = select(t.meta.c.value).where(t.meta.c.key == OPERATING_POINT)
FIRST_REVISION = "0001"
MOST_LABELS = 1024
"""Labels of one read: a promotion among them ends the step, and the rest is read again."""


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
    measurements: list[Measurement] = field(default_factory=list)
    operating_point: str = ""
    """As JSON, for the workers; empty while it is as before."""


class SqlStore:
    """Both logs, promotions, snapshots, events, the runner's lease and checkpoint.

    Safe to share between threads, processes and, on PostgreSQL, machines. Places in a log become
    visible in their order. A commit is on disk when the call returns.

    Args:
        url: SQLAlchemy URL, e.g. ``sqlite:////var/lib/selfheal/selfheal.db`` or
            ``postgresql+psycopg://selfheal@db/selfheal``.

    Attributes:
        shared: Whether replicas on many machines may share it: it then carries adapters as well.

    Raises:
        StoreError: The store cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._db = Connections(url)
        self.shared = self._db.shared

    def close(self) -> None:
        """Let go of every connection."""
        self._db.close()

    # -- meta ------------------------------------------------------------------------------

    def create(self) -> None:
        """Bring the tables to this release, and make the secret that signs prediction ids.

        Raises:
            StoreError: The store is of a newer release, or cannot be written.
        """
        with self._db.write() as c:
            _migrate(c, self._db.name)
            known = set(c.execute(select(t.meta.c.key)).scalars())
            fresh = {"secret": secrets.token_hex(32), "store_id": secrets.token_hex(3)}
            missing = [{"key": k, "value": v} for k, v in fresh.items() if k not in known]
            if missing:
                c.execute(insert(t.meta), missing)

    def check(self) -> None:
        """See that the tables are of this release; for those who only read.

        Raises:
            StoreError: They are not; the message names what brings them up to date.
        """
        with self._db.read() as c:
            found, (_, known) = _revision(c), _revisions(c)
        if found != known[0]:
            raise StoreError(
                f"{self._db.name} has {f'schema {found}' if found else 'no tables'}, this release "
                f"needs {known[0]}; start the service or run `bento-selfheal deploy TAG`, which "
                "bring it up to date"
            )

    def meta(self, key: str) -> str | None:
        """A fact about the store itself."""
        with self._db.read() as c:
            return c.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar()

    def set_meta(self, key: str, value: str) -> None:
        """Note a fact about the store itself."""
        with self._db.write() as c:
            _put_meta(c, key, value)

    # -- the two logs ----------------------------------------------------------------------

    def append_predictions(self, records: Sequence[PredictionRecord]) -> None:
        """Group commit of the prediction log."""
        rows = [codec.prediction_row(r) for r in records]
        with self._db.write(Turn.LOGS, lasting=False) as c:
            upto = _logged_bytes(c)
            for row in rows:
                upto += len(row["features"]) + len(row["probabilities"])
                row["upto"] = upto
            c.execute(insert(t.predictions), rows)

    def add_feedback(self, records: Sequence[FeedbackRecord]) -> FeedbackResult:
        """Write labels; each counts once however often it is sent. Durable on return."""
        result = FeedbackResult([], {})
        fresh: list[dict[str, Any]] = []
        with self._db.write(Turn.LOGS) as c:
            after = c.execute(select(func.coalesce(func.max(t.predictions.c.seq), 0))).scalar_one()
            horizon = _horizon(c)
            newest = _newest_labels(c, {r.request for r in records})
            for i, r in enumerate(records):
                known = newest.get((r.request, r.row))
                if known is not None and known[0] == r.label:
                    result.outcomes.append(FeedbackOutcome.KNOWN)
                    continue
                if known is not None and not r.corrects:
                    result.outcomes.append(FeedbackOutcome.CONFLICT)
                    result.kept[i] = known[0]
                    continue
                revision = known[1] + 1 if known else 0
                newest[(r.request, r.row)] = (r.label, revision)
                result.outcomes.append(FeedbackOutcome.ACCEPTED)
                if r.features is None and horizon is not None and horizon.took(r, after):
                    result.expired.add(i)
                fresh.append(codec.feedback_row(r, revision, after))
            if fresh:
                c.execute(insert(t.feedback), fresh)
        return result

    def read_log(
        self, predictions_from: int, feedback_from: int, limit: int = 64
    ) -> list[PredictionRecord | FeedbackRecord]:
        """The next entries of both logs behind the two cursors, in their common order.

        A prediction stands at its own place, a label behind the newest prediction that was
        there when it was written. What is returned is always a prefix of that order.
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
        """Logged predictions by request key; ones that are not in the log are missing."""
        found: dict[bytes, PredictionRecord] = {}
        with self._db.read() as c:
            for part in _chunks(sorted(requests), 500):
                query = select(t.predictions).where(t.predictions.c.request.in_(part))
                found.update((bytes(r.request), codec.prediction(r)) for r in c.execute(query))
        return found

    def horizon(self) -> Horizon | None:
        """Where the prediction log begins; None while nothing of it was retired."""
        with self._db.read() as c:
            return _horizon(c)

    def ends(self) -> tuple[int, int, int]:
        """The newest places of predictions, feedback and commands."""
        with self._db.read() as c:
            newest = [
                int(c.execute(select(func.coalesce(func.max(log.c.seq), 0))).scalar_one())
                for log in (t.predictions, t.feedback, t.commands)
            ]
        return newest[0], newest[1], newest[2]

    # -- retention ----------------------------------------------------------------------------

    def logged(self) -> tuple[int, float | None]:
        """Bytes of features and answers in the prediction log, and the time of its oldest
        request in seconds since the epoch."""
        with self._db.read() as c:
            oldest = _oldest(c, 1)
            if not oldest:
                return 0, None
            before = oldest[0].upto - oldest[0].size
            return _logged_bytes(c) - before, oldest[0].time

    def retire_predictions(self, before: float, bytes_kept: int, limit: int) -> int:
        """Delete the oldest requests of the log: those that are too old or too much.

        Args:
            before: Seconds since the epoch.
            bytes_kept: Bytes of features and answers that may stay.
            limit: Requests to delete at most, for a transaction that holds nobody up.

        Returns:
            How many requests went.
        """
        with self._db.write(Turn.LOGS, lasting=False) as c:
            upto = _logged_bytes(c)

            def goes(r: Row[Any]) -> bool:
                too_much = upto - (r.upto - r.size) > bytes_kept
                # The newest request always stays: it says where the log stands.
                return bool(r.upto != upto and (r.time < before or too_much))

            return _delete_first(c, t.predictions, takewhile(goes, _oldest(c, limit)))

    def retire_feedback(self, before: float, limit: int) -> int:
        """Delete the oldest labels of the log, as `retire_predictions` does predictions."""
        f = t.feedback.c
        with self._db.write(Turn.LOGS, lasting=False) as c:
            oldest = c.execute(select(f.seq, f.time).order_by(f.seq).limit(limit)).all()
            return _delete_first(c, t.feedback, takewhile(lambda r: r.time < before, oldest))

    def retire_measurements(self, before: float, thin_from: float, thin_to: float) -> int:
        """Delete figures older than ``before``, and of signals alone all but one in 60 from
        ``thin_from`` to ``thin_to``; seconds since the epoch."""
        m = t.measurements.c
        between = and_(m.time >= thin_from, m.time < thin_to)
        surplus = and_(between, not_(m.scored), m.seq % 60 != 0)
        with self._db.write() as c:
            gone = c.execute(delete(t.measurements).where(or_(m.time < before, surplus)))
            return int(gone.rowcount)

    # -- adapters, for replicas -----------------------------------------------------------------

    def keep_adapter(self, sha256: str, blob: bytes, signature: str) -> None:
        """Keep an adapter's bytes under their hash, with their signature or ""."""
        with self._db.write() as c:
            known = t.adapters.c.sha256 == sha256
            signed = update(t.adapters).where(known).values(signature=signature)
            if not c.execute(signed).rowcount:
                c.execute(
                    insert(t.adapters).values(
                        sha256=sha256, time=time.time(), blob=blob, signature=signature
                    )
                )

    def adapter(self, sha256: str) -> tuple[bytes, str] | None:
        """The bytes of an adapter and their signature; None when they are not here."""
        a = t.adapters.c
        with self._db.read() as c:
            found = c.execute(select(a.blob, a.signature).where(a.sha256 == sha256)).first()
        return None if found is None else (bytes(found.blob), found.signature)

    def retire_adapters(self, before: float) -> int:
        """Delete adapters older than ``before`` that no kept snapshot has."""
        kept = select(t.snapshots.c.sha256).where(t.snapshots.c.kept)
        with self._db.write() as c:
            a = t.adapters.c
            gone = c.execute(delete(t.adapters).where(a.time < before, a.sha256.not_in(kept)))
            return int(gone.rowcount)

    # -- what operators and pages read --------------------------------------------------------

    def snapshots(self, *, kept_only: bool = True) -> list[Snapshot]:
        """Snapshots, oldest first; with ``kept_only`` those still in the model store."""
        query = select(t.snapshots).order_by(t.snapshots.c.version)
        if kept_only:
            query = query.where(t.snapshots.c.kept)
        with self._db.read() as c:
            return [codec.snapshot(r) for r in c.execute(query)]

    def newest_promotion(self) -> Promotion | None:
        """What is to be served now."""
        return self.serving_state()[0]

    def serving_state(self) -> tuple[Promotion | None, str | None]:
        """What is to be served now, and the operating point in force as JSON; for followers."""
        with self._db.read() as c:
            row, point = c.execute(_NEWEST_PROMOTION).first(), c.execute(_POINT).scalar()
            return (codec.promotion(row) if row else None), point

    def promotions(self, after: int = 0, limit: int = 1000) -> list[Promotion]:
        """The promotion log behind a place, oldest first."""
        query = (
            select(t.promotions)
            .where(t.promotions.c.seq > after)
            .order_by(t.promotions.c.seq)
            .limit(limit)
        )
        with self._db.read() as c:
            return [codec.promotion(r) for r in c.execute(query)]

    def servable(self) -> list[Promotion]:
        """Of each kept snapshot the newest promotion, oldest first: what may serve when the
        newest of all does not verify."""
        p, s = t.promotions.c, t.snapshots.c
        newest = (
            select(func.max(p.seq))
            .join_from(t.promotions, t.snapshots, s.version == p.version)
            .where(s.kept)
            .group_by(p.version)
        )
        query = select(t.promotions).where(p.seq.in_(newest)).order_by(p.seq)
        with self._db.read() as c:
            return [codec.promotion(r) for r in c.execute(query)]

    def events(self, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events behind a place, oldest first."""
        query = select(t.events).where(t.events.c.seq > after).order_by(t.events.c.seq).limit(limit)
        with self._db.read() as c:
            return [Event(r.kind, r.detail, r.time, r.batch, r.seq) for r in c.execute(query)]

    def measurements(
        self,
        since: float = 0.0,
        after: int = 0,
        *,
        scored_only: bool = False,
        limit: int = 100_000,
    ) -> list[Measurement]:
        """Figures over time, oldest first; where there are more than ``limit``, every n-th.

        Args:
            since: Seconds since the epoch.
            after: Place behind which to begin.
            scored_only: Leave those of signals alone out.
            limit: Most to return.
        """
        m = t.measurements.c
        wanted = [m.time >= since, m.seq > after, *([m.scored] if scored_only else [])]
        numbered = select(t.measurements, func.row_number().over(order_by=m.seq.desc()).label("n"))
        with self._db.read() as c:
            count = c.execute(select(func.count()).where(*wanted)).scalar_one()
            step = max(math.ceil(count / limit), 1)
            every = numbered.where(*wanted).subquery()
            # Numbered from the newest, so that the newest is always among them.
            query = select(*(every.c[k.name] for k in m)).where((every.c.n - 1) % step == 0)
            return [codec.measurement(r) for r in c.execute(query.order_by(every.c.seq))]

    def add_event(self, happened: Event) -> None:
        """Note an event outside a step of the runner."""
        with self._db.write() as c:
            c.execute(insert(t.events), [codec.event_row(happened)])

    def promote(self, promotion: Promotion, happened: Event) -> None:
        """Write an operator's promotion, outside a step of the runner.

        Raises:
            CommandError: The snapshot is not kept any more.
        """
        with self._db.write() as c:
            s = t.snapshots.c
            kept = c.execute(select(s.kept).where(s.version == promotion.version)).scalar()
            if not kept:
                raise CommandError(f"version: snapshot {promotion.version} is not kept any more")
            _append_promotions(c, [promotion])
            c.execute(insert(t.events), [codec.event_row(happened)])

    def take_over(
        self,
        clean: Snapshot,
        promotion: Promotion,
        happened: Event,
        *,
        status: dict[str, Any],
        facts: dict[str, str],
        before: str | None,
    ) -> None:
        """Let a package take over, at once for all who look: its clean snapshot is promoted,
        no older one is kept, the runner's checkpoint is void, and the facts say where it begins.

        Raises:
            PromotionMoved: Another package than ``before`` serves now; nothing was written.
        """
        with self._db.write() as c:
            if (
                c.execute(select(t.meta.c.value).where(t.meta.c.key == "package")).scalar()
                != before
            ):
                raise PromotionMoved("another package took over at the same time")
            c.execute(
                update(t.snapshots).where(t.snapshots.c.version < clean.version).values(kept=False)
            )
            c.execute(insert(t.snapshots), [codec.snapshot_row(clean)])
            _append_promotions(c, [promotion])
            c.execute(insert(t.events), [codec.event_row(happened)])
            for key, value in facts.items():
                _put_meta(c, key, value)
            _begin(c, status)

    # -- commands -----------------------------------------------------------------------------

    def add_command(self, kind: str, argument: str | None = None, *, by: str = "operator") -> int:
        """Ask the runner for something, in somebody's name; returns the place of the command."""
        with self._db.write() as c:
            result = c.execute(
                insert(t.commands).values(kind=kind, argument=argument, time=time.time(), by=by)
            )
            return int(result.inserted_primary_key[0])  # type: ignore[index]

    def commands(self, after: int) -> list[Command]:
        """Commands behind a place, oldest first."""
        query = select(t.commands).where(t.commands.c.seq > after).order_by(t.commands.c.seq)
        with self._db.read() as c:
            return [Command(r.kind, r.time, r.seq, r.argument, r.by) for r in c.execute(query)]

    # -- the runner ---------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What the runner last showed of itself; empty before its first step."""
        with self._db.read() as c:
            return dict(c.execute(select(t.runner.c.status)).scalar() or {})

    def state(self) -> bytes | None:
        """The runner's checkpoint."""
        with self._db.read() as c:
            return c.execute(select(t.runner.c.state)).scalar()

    def begin_status(self, status: dict[str, Any]) -> None:
        """Show where a deployment starts, before any runner leads; no checkpoint holds for it."""
        with self._db.write() as c:
            _begin(c, status)

    def acquire_lease(self, owner: str, seconds: float) -> int | None:
        """Take or renew the lease; the fencing token, or None while another one leads."""
        with self._db.write() as c:
            row = c.execute(select(t.runner.c.owner, t.runner.c.token, t.runner.c.until)).first()
            now = _now(c)
            if row is None:
                raise StoreError("the store has no package yet; deploy one first")
            asker = Asker.HOLDER if row.owner == owner else Asker.OTHER
            grant = LEASES[lease_at(row.until, now, seconds), asker]
            if grant is Grant.REFUSE:
                return None
            token = row.token + 1 if grant is Grant.SUCCEED else row.token
            c.execute(update(t.runner).values(owner=owner, token=token, until=now + seconds))
            return int(token)

    def leader(self) -> str | None:
        """Who holds the lease now; None while nobody leads."""
        with self._db.read() as c:
            row = c.execute(select(t.runner.c.owner, t.runner.c.until)).first()
            return row.owner if row is not None and row.until > _now(c) else None

    def release_lease(self, owner: str) -> None:
        """Let a successor lead at once."""
        with self._db.write() as c:
            c.execute(update(t.runner).where(t.runner.c.owner == owner).values(until=0.0))

    def show_status(self, token: int, status: dict[str, Any]) -> None:
        """Show the runner's status between two checkpoints.

        Raises:
            LeaseLost: Another runner leads now.
        """
        with self._db.write() as c:
            _fenced(c, token, {"status": status})

    def commit(self, token: int, checkpoint: Checkpoint) -> int:
        """Write one step of the runner; returns the place of the newest promotion.

        Raises:
            LeaseLost: Another runner leads now; nothing was written.
            PromotionMoved: An operator's promotion came first; nothing was written.
        """
        with self._db.write() as c:
            _fenced(c, token, {"state": checkpoint.state, "status": checkpoint.status})
            place = select(func.coalesce(func.max(t.promotions.c.seq), 0))
            if c.execute(place).scalar_one() != checkpoint.after_promotion:
                raise PromotionMoved("an operator changed what serves during this step")
            for snapshot in checkpoint.snapshots:
                values = codec.snapshot_row(snapshot)
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
            _append_promotions(c, checkpoint.promotions)
            if checkpoint.operating_point:
                _put_meta(c, OPERATING_POINT, checkpoint.operating_point)
            if checkpoint.events:
                c.execute(insert(t.events), [codec.event_row(e) for e in checkpoint.events])
            if checkpoint.measurements:
                rows = [codec.measurement_row(m) for m in checkpoint.measurements]
                c.execute(insert(t.measurements), rows)
            return int(c.execute(place).scalar_one())


def _begin(c: Connection, status: dict[str, Any]) -> None:
    if c.execute(update(t.runner).values(state=None, status=status)).rowcount == 0:
        c.execute(
            insert(t.runner).values(id=1, owner="", token=0, until=0.0, state=None, status=status)
        )


def _append_promotions(c: Connection, promotions: Iterable[Promotion]) -> None:
    """Write promotions that the tables of `transitions` allow."""
    for promotion in promotions:
        s = t.snapshots.c
        found = c.execute(select(s.phase, s.kept).where(s.version == promotion.version)).one()
        may_serve(promotion.kind, Phase(found.phase), kept=found.kept)
        c.execute(insert(t.promotions), [codec.promotion_row(promotion)])


def _put_meta(c: Connection, key: str, value: str) -> None:
    done = c.execute(update(t.meta).where(t.meta.c.key == key).values(value=value))
    if done.rowcount == 0:
        c.execute(insert(t.meta).values(key=key, value=value))


def _fenced(c: Connection, token: int, values: dict[str, Any]) -> None:
    done = c.execute(update(t.runner).where(t.runner.c.token == token).values(values))
    if done.rowcount != 1:
        raise LeaseLost(f"the lease with token {token} has passed to another runner")


def _now(c: Connection) -> float:
    """Seconds since the epoch by the one clock that all processes of a store share."""
    if c.dialect.name == "postgresql":
        return float(c.execute(text("select extract(epoch from clock_timestamp())")).scalar_one())
    return time.time()


def _logged_bytes(c: Connection) -> int:
    """Bytes of all requests ever logged."""
    p = t.predictions.c
    return int(c.execute(select(p.upto).order_by(p.seq.desc()).limit(1)).scalar() or 0)


def _oldest(c: Connection, limit: int) -> Sequence[Any]:
    p = t.predictions.c
    size = (func.length(p.features) + func.length(p.probabilities)).label("size")
    columns = (p.seq, p.request, p.time, p.upto, size)
    return c.execute(select(*columns).order_by(p.seq).limit(limit)).all()


def _delete_first(c: Connection, log: Table, rows: Iterable[Any]) -> int:
    """Delete the oldest rows of a log, as given with their ``seq``; how many went."""
    last = max((r.seq for r in rows), default=0)
    return int(c.execute(delete(log).where(log.c.seq <= last)).rowcount) if last else 0


def _horizon(c: Connection) -> Horizon | None:
    oldest = _oldest(c, 1)
    # Nothing was retired while the very first one is there, whatever clocks say.
    if not oldest or oldest[0].upto == oldest[0].size:
        return None
    return Horizon(oldest[0].seq, issued_at(bytes(oldest[0].request)))


def _migrate(c: Connection, name: str) -> None:
    """Bring the tables to the newest revision, inside the caller's transaction."""
    from alembic import command

    config, known = _revisions(c)
    found = _revision(c)
    if found == known[0]:
        return
    if found is not None and found not in known:
        raise NewerRelease(
            f"{name} has schema {found}, newer than this release knows ({known[0]}); serve it "
            "with the release that made it"
        )
    if found == FIRST_REVISION:
        command.stamp(config, found)
    command.upgrade(config, "head")


def _revisions(c: Connection) -> tuple[Any, list[str]]:
    """Alembic's configuration for a connection, and the revisions of this release, newest first."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": c})
    config.set_main_option("script_location", str(MIGRATIONS))
    return config, [r.revision for r in ScriptDirectory.from_config(config).walk_revisions()]


def _revision(c: Connection) -> str | None:
    """The revision of the tables that are there; None without any."""
    tables = inspect(c).get_table_names()
    if "alembic_version" in tables:
        found: str | None = c.execute(text("select version_num from alembic_version")).scalar()
        return found
    # Made before there were migrations.
    return FIRST_REVISION if "predictions" in tables else None


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
