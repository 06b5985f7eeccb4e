"""Whole processes whose clock jumps by an hour, and two services started by mistake."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import ROOT, wait_for
from live import BRISK, processes, served
from teller import PAUSE, Teller, compare

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.store import SqlStore

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(900)]

LEASE = 2.0
RESTART = 60.0
"""Seconds in which a runner starts again, also where another test has its server at work."""
JUMPS = ("-1h", "+0")


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """The file that libfaketime reads."""
    file = tmp_path / "clock"
    file.write_text("+0\n")
    return file


@contextmanager
def faked(home: Path, package: Package, folder: Path, clock: Path) -> Iterator[ServedService]:
    """A server whose processes read their clock from a file."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed: `apt-get install faketime`")
    env = {
        "SELFHEAL_MODEL": package.tag, "SELFHEAL_STATE_DIR": str(folder / "state"), **BRISK,
        "SELFHEAL_WORKERS": "2", "SELFHEAL_LEASE_SECONDS": str(LEASE), "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
        # Event loops and deadlines go by this clock, which no operator can set.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    with ServedService(
        "service:SelfHealing", home=home, log=folder / "server.log", cwd=ROOT, env=env
    ) as server:
        yield server


def flows(teller: Teller, store: SqlStore) -> None:
    """Labels are acknowledged and heals are made."""
    labels, heals = len(teller.acknowledged), store.status()["heals"]
    wait_for(lambda: len(teller.acknowledged) > labels + 100, "labels acknowledged", 120)
    wait_for(lambda: store.status()["heals"] > heals, "the next heal", 120)


def whole(teller: Teller, store: SqlStore) -> dict[str, int]:
    """Every label is there and learned once, every heal made once; the figures."""
    teller.rest()
    wait_for(lambda: not teller.owes, "every label acknowledged", 120)
    found = compare(teller, store)
    wait_for(lambda: store.status()["labels"]["joined"] == found.labels, "every label learned", 300)
    heals = [e.detail["heal"] for e in store.events(limit=100_000) if e.kind == "heal"]
    assert heals == list(range(1, len(heals) + 1))
    assert (found.lost, found.twice, teller.look().failed) == (0, 0, 0)
    return {"acknowledged": len(teller.acknowledged), "lost": found.lost,
            "heals": len(heals), "heals_twice": len(heals) - len(set(heals))}  # fmt: skip


def test_clock_jumps(
    home: Path, package: Package, tmp_path: Path, clock: Path, record_fault: Callable[..., None]
) -> None:
    """An hour back and forth while it serves: all goes on; a leader that dies as the clock is set
    back is succeeded within two leases and a restart."""
    with faked(home, package, tmp_path, clock) as server, closing(
        SqlStore(f"sqlite:///{tmp_path / 'state' / 'selfheal.db'}")
    ) as store, Teller(server.url, 5, 2 * PAUSE) as teller:  # fmt: skip
        flows(teller, store)
        for jump in JUMPS:
            clock.write_text(f"{jump}\n")
            flows(teller, store)
        [runner] = processes(server, "HealingRunner")
        runner.kill()
        clock.write_text("-1h\n")
        started, heals = time.monotonic(), store.status()["heals"]
        wait_for(lambda: store.status()["heals"] > heals, "the successor's heal", 120)
        seconds = time.monotonic() - started
        figures = whole(teller, store)
    record_fault("clock set by an hour, back and forth", jumps=len(JUMPS) + 1,
                 successor_heals_after_s=round(seconds, 1), **figures)  # fmt: skip
    assert seconds < 2 * LEASE + RESTART


def test_two_runners(
    home: Path, package: Package, tmp_path: Path, record_fault: Callable[..., None]
) -> None:
    """Two services on one state by mistake: one heals, and both serve what it promotes."""
    url = f"sqlite:///{tmp_path / 'state' / 'selfheal.db'}"
    settings = {"workers": 1, "store_url": url, "lease_seconds": LEASE}
    with served(home, package, tmp_path, **settings) as one:
        (tmp_path / "two").mkdir()
        with (
            served(home, package, tmp_path / "two", **settings) as two,
            closing(SqlStore(url)) as store,
            Teller(one.url, 5, 2 * PAUSE) as teller,  # one runner learns from both
            Teller(two.url, 6, 2 * PAUSE) as other,
        ):
            flows(teller, store)
            leaders = {store.leader()}
            flows(other, store)
            leaders.add(store.leader())
            for each in (teller, other):
                each.rest()
                wait_for(lambda each=each: not each.owes, "every label acknowledged", 120)
            found = compare(teller, store)
            wait_for(lambda: store.status()["labels"]["joined"] == found.labels, "learned", 300)
            heals = [e.detail["heal"] for e in store.events(limit=100_000) if e.kind == "heal"]
            said = [len(s.log.read_text().split(" leads")) - 1 for s in (one, two)]
    record_fault("two runners by mistake", heals=len(heals),
                 heals_twice=len(heals) - len(set(heals)), led=said)  # fmt: skip
    assert len(leaders) == 1
    assert sorted(said) == [0, 1]
    assert heals == list(range(1, len(heals) + 1))
