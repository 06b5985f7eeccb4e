"""A store that is locked, full, slow, read-only, stalled or gone: predictions go on, feedback is
refused with a time to wait and never acknowledged falsely, drops are counted, and all goes on by
itself when the store is back."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for
from disk import filled, small_disk, use_free_pages, with_package
from live import Client, served
from postgres import Postgres
from proxy import Proxy
from sqlalchemy.engine import make_url
from teller import Teller, Told, compare

from bento_selfheal.packaging.package import Package
from bento_selfheal.store import SqlStore

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

WORKERS = 2
FEEDBACK_SECONDS = 12.0
"""A refusal comes sooner than this."""
SLOWEST = 1.0
"""Seconds that a prediction may take on two cores which everything shares."""

Fault = Callable[[], AbstractContextManager[None]]


class Away:
    """A service under load, whose store goes away for a while.

    Args:
        teller: The load.
        client: Of the service.
        store: Seen from outside, past the fault.
        seconds: How long a store is away.
    """

    def __init__(self, teller: Teller, client: Client, store: SqlStore, seconds: float) -> None:
        self.teller, self.client, self.store, self.seconds = teller, client, store, seconds

    def during(self, fault: Fault, *, refuses: bool = True) -> Told:
        """What was told while the fault lasted; all goes on after it."""
        self.flows()
        with fault():
            self.teller.look()
            if refuses:
                wait_for(lambda: self.teller._told.feedback[503], "refused", FEEDBACK_SECONDS + 5)
            time.sleep(self.seconds)  # the store is away for so long
            told = self.teller.look()
        self.flows()
        return told

    def flows(self) -> None:
        """Labels are acknowledged, the runner learns, and heals are made."""
        labels, status = len(self.teller.acknowledged), self.store.status()
        wait_for(lambda: len(self.teller.acknowledged) > labels + 100, "labels acknowledged", 120)
        wait_for(lambda: self.store.status()["heals"] > status["heals"], "the next heal", 120)

    def settle(self) -> dict[str, Any]:
        """Stop asking; every row is logged or counted as dropped, every label learned once."""
        self.teller.rest()
        wait_for(lambda: not self.teller.owes, "every label acknowledged", 120)
        wait_for(self._accounted, "every row logged or dropped", 120)
        found = compare(self.teller, self.store)
        wait_for(lambda: self._learned() == found.labels, "every label learned", 120)
        assert (found.lost, found.twice) == (0, 0)
        return {"acknowledged": len(self.teller.acknowledged), "lost": 0, "counted_twice": 0,
                "rows_dropped": self.dropped()}  # fmt: skip

    def dropped(self) -> int:
        return sum(e.detail["rows"] for e in self.store.events(limit=10_000) if e.kind == "dropped")

    def _accounted(self) -> bool:
        return bool(self.store.status()["predicted_rows"] + self.dropped() == self.teller.rows)

    def _learned(self) -> int:
        labels = self.store.status()["labels"]
        return int(labels["joined"] + labels["waiting"] + labels["unmatched"])


@pytest.fixture
def away(
    home: Path, package: Package, tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[..., AbstractContextManager[Away]]:
    """Serves on a store URL and loads it; ``outside`` is the way to it that has no faults."""

    @contextmanager
    def start(
        url: str, outside: str | None = None, at: Path = home, **settings: Any
    ) -> Iterator[Away]:
        own = {"workers": WORKERS, "store_url": url, "lease_seconds": 2, **settings}
        seconds = request.config.getoption("--away")
        with (
            served(at, package, tmp_path, **own) as server,
            closing(SqlStore(outside or url)) as store,
            Client(server) as client,
            Teller(server.url, 3) as teller,
        ):
            before = {p.pid for p in _tree(server)}
            yield Away(teller, client, store, seconds)
            assert {p.pid for p in _tree(server)} == before, "something was started anew"

    return start


def _tree(server: Any) -> list[Any]:
    import psutil

    return psutil.Process(server.process.pid).children(recursive=True)


def assert_refused(told: Told) -> None:
    """Predictions were answered fast, and feedback refused, with the time to wait."""
    assert_predicted(told)
    assert set(told.feedback) <= {200, 503}, told
    assert told.feedback[503] > 0, told  # a locked file holds each for FEEDBACK_SECONDS
    assert told.feedback[200] <= 1, told  # one may be under way when it goes
    assert told.without_retry_after == 0


def assert_predicted(told: Told) -> None:
    assert told.failed == 0
    assert told.answered > 20
    assert told.slowest < SLOWEST


def figures(told: Told) -> dict[str, Any]:
    return {
        "predictions": told.answered, "failed": told.failed, "slowest_s": round(told.slowest, 3),
        "feedback_refused": told.feedback[503],
    }  # fmt: skip


def test_locked(
    away: Callable[..., AbstractContextManager[Away]], tmp_path: Path,
    record_fault: Callable[..., None],
) -> None:  # fmt: skip
    """Another process holds the SQLite file."""
    file = tmp_path / "state" / "selfheal.db"

    @contextmanager
    def locked() -> Iterator[None]:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as c:
            c.execute("begin immediate")
            yield
            c.execute("rollback")

    with away(f"sqlite:///{file}") as service:
        told = service.during(locked)
        record_fault("SQLite locked by another process", **figures(told), **service.settle())
    assert_refused(told)


@pytest.mark.parametrize(
    "what", [pytest.param("store", marks=pytest.mark.long), "store, models and metrics"]
)
def test_full(
    away: Callable[..., AbstractContextManager[Away]], home: Path, package: Package,
    tmp_path: Path, what: str, record_fault: Callable[..., None],
) -> None:  # fmt: skip
    """The disk with the store, or with all that a container's volume has, gets full, and there is
    room again later."""

    @contextmanager
    def full() -> Iterator[None]:
        with filled(folder):
            use_free_pages(folder / "selfheal.db")
            yield

    # Large enough that the service alone, with the ballast in its log, never fills it.
    with small_disk(tmp_path / "small", 128) as folder:
        own = home if what == "store" else with_package(home, package, folder)
        url = f"sqlite:///{folder / 'selfheal.db'}"
        with away(url, at=own, queue_rows=200) as service:
            told = service.during(full)
            found = service.settle()
    record_fault(f"disk full: {what}", **figures(told), **found)
    assert_predicted(told)
    assert told.feedback[503] > 0
    assert set(told.feedback) <= {200, 503}
    assert told.without_retry_after == 0
    assert found["rows_dropped"] > 0


@pytest.fixture
def proxied(postgres: Postgres) -> Iterator[tuple[Proxy, str, str]]:
    """A proxy, the URL of a database by way of it, and the one past it."""
    url = postgres.database()
    proxy = Proxy(postgres.port)
    yield proxy, make_url(url).set(port=proxy.port).render_as_string(), url
    proxy.close()


def test_gone(
    away: Callable[..., AbstractContextManager[Away]], proxied: tuple[Proxy, str, str],
    record_fault: Callable[..., None],
) -> None:  # fmt: skip
    """PostgreSQL is gone for a while: connections are reset, new ones refused."""
    proxy, url, outside = proxied
    with away(url, outside, queue_rows=400) as service:
        told = service.during(proxy.gone)
        found = service.settle()
    record_fault("PostgreSQL gone", **figures(told), **found)
    assert_refused(told)
    assert found["rows_dropped"] > 0


@pytest.mark.long
def test_stalled(
    away: Callable[..., AbstractContextManager[Away]], proxied: tuple[Proxy, str, str],
    record_fault: Callable[..., None],
) -> None:  # fmt: skip
    """Connections to PostgreSQL stay open and nothing comes back."""
    proxy, url, outside = proxied
    with away(url, outside) as service:
        told = service.during(proxy.stalled)
        record_fault("PostgreSQL stalled", **figures(told), **service.settle())
    assert_refused(told)


@pytest.mark.long
def test_slow(
    away: Callable[..., AbstractContextManager[Away]], proxied: tuple[Proxy, str, str],
    record_fault: Callable[..., None],
) -> None:  # fmt: skip
    """Every answer of PostgreSQL takes a tenth of a second each way: feedback waits, predictions
    do not."""
    proxy, url, outside = proxied
    with away(url, outside) as service:
        told = service.during(lambda: proxy.slow(0.1), refuses=False)
        found = service.settle()
    record_fault("PostgreSQL slow, 0.1 s each way", **figures(told), **found)
    assert_predicted(told)
    assert set(told.feedback) == {200}
    assert found["rows_dropped"] == 0


@pytest.mark.long
def test_read_only(
    away: Callable[..., AbstractContextManager[Away]], postgres: Postgres,
    record_fault: Callable[..., None],
) -> None:  # fmt: skip
    """PostgreSQL comes back as a standby, which takes no writes until it is promoted."""
    with away(postgres.database()) as service:
        told = service.during(postgres.standing_by)
        record_fault("PostgreSQL read-only, as a standby", **figures(told), **service.settle())
    assert_refused(told)


@pytest.mark.long
def test_connections_cut(
    away: Callable[..., AbstractContextManager[Away]], proxied: tuple[Proxy, str, str],
    record_fault: Callable[..., None],
) -> None:  # fmt: skip
    """Connections to PostgreSQL are reset again and again, in the middle of whatever they do:
    commits whose answer is lost are neither lost nor written twice."""
    proxy, url, outside = proxied
    cut = 0
    with away(url, outside) as service:
        service.flows()
        service.teller.look()
        deadline = time.monotonic() + 2 * service.seconds
        while time.monotonic() < deadline:
            time.sleep(0.1)  # the instants are the test
            cut += proxy.cut()
        told = service.teller.look()
        service.flows()
        found = service.settle()
    record_fault("PostgreSQL connections reset", cut=cut, **figures(told), **found)
    assert_predicted(told)
    assert set(told.feedback) <= {200, 503}
    assert told.without_retry_after == 0
    assert found["rows_dropped"] == 0
