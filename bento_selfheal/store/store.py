"""The store in SQL, through SQLAlchemy: every statement runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from bento_selfheal.store.audit.audit import Audits
from bento_selfheal.store.candidates.candidates import Candidates
from bento_selfheal.store.connections import Connections
from bento_selfheal.store.erasure.erasure import Erasures
from bento_selfheal.store.events import Events
from bento_selfheal.store.inputs import LoggedInputs
from bento_selfheal.store.labels.asked import ReviewRows
from bento_selfheal.store.labels.conflicts import ConflictRule
from bento_selfheal.store.labels.rates import LabelRates
from bento_selfheal.store.leadership import Leadership
from bento_selfheal.store.logs import Logs
from bento_selfheal.store.promotions import Promotions
from bento_selfheal.store.retention import Retirement
from bento_selfheal.store.schema import Schema
from bento_selfheal.store.webhooks.places import WebhookPlaces


class SqlStore(
    Schema,
    Logs,
    LabelRates,
    ReviewRows,
    LoggedInputs,
    Promotions,
    Leadership,
    Events,
    Erasures,
    Candidates,
    Audits,
    WebhookPlaces,
    Retirement,
):
    """Both logs, inputs, promotions, snapshots, events, the runner's lease and its checkpoint.

    Threads, processes and, on PostgreSQL, machines may share it. Places in a log become visible in
    their order. Unless a method says otherwise, its commit is on disk when it returns.

    Args:
        url: SQLAlchemy URL, e.g. ``sqlite:////var/lib/selfheal/selfheal.db`` or
            ``postgresql+psycopg://selfheal@db/selfheal``.
        rule: Which of several labels of one row stands; without one, the first.

    Attributes:
        url: As given.
        shared: Whether replicas on many machines may share it; it then carries adapters as well.

    Raises:
        StoreError: The URL is malformed, or names a database that is not supported.
    """

    def __init__(self, url: str, rule: ConflictRule | None = None) -> None:
        self.url = url
        self.rule = rule or ConflictRule()
        super().__init__(Connections(url))
        self.shared = self._db.shared

    def close(self) -> None:
        """Close every connection."""
        self._db.close()
