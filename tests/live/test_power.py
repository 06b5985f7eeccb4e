"""Power cuts: what was acknowledged is on the disk, and what serves afterwards verifies."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_for
from disk import Disk, with_package
from live import Client, served
from teller import Teller, compare, unverified

from bento_selfheal.packaging.adapters import ADAPTER
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import free_port
from bento_selfheal.store import SqlStore

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(3600)]

SEED = 8
LONGEST = 6.0


def test_power_cut(
    home: Path, package: Package, tmp_path: Path, request: pytest.FixtureRequest,
    record_fault: Callable[..., None],
) -> None:  # fmt: skip
    """At random instants under load the disk takes nothing more: after each of them every
    acknowledged label is there once, the promoted adapter is whole, and the service goes on."""
    disk, draw, port = Disk(tmp_path), np.random.default_rng(SEED), free_port()
    own = with_package(home, package, disk.path)
    os.sync()  # the package has been there for long
    url = f"sqlite:///{own / 'selfheal' / 'store.db'}"
    settings = {
        "workers": 1, "store_url": url, "state_dir": own / "selfheal", "snapshots_kept": 100_000,
    }  # fmt: skip
    teller, cuts = Teller(f"http://127.0.0.1:{port}", SEED), request.config.getoption("--cuts")
    lost = twice = broken = 0
    try:
        with teller:
            for _ in range(cuts):
                with served(own, package, tmp_path, port=port, **settings) as server:
                    told = len(teller.acknowledged)
                    wait_for(lambda told=told: len(teller.acknowledged) > told + 150, "labels", 120)
                    time.sleep(draw.uniform(0, LONGEST))  # the instant is the test
                    disk.cut()
                    server.kill()
                disk.restore()
                with closing(SqlStore(url)) as store:
                    found = compare(teller, store)
                    lost, twice = lost + found.lost, twice + found.twice
                    broken += not _whole(own, store)
            with (
                served(own, package, tmp_path, port=port, **settings) as server,
                closing(SqlStore(url)) as store,
            ):
                heals = store.status()["heals"]
                wait_for(lambda: store.status()["heals"] > heals, "the next heal", 120)
                teller.rest()
                wait_for(lambda: not teller.owes, "every label acknowledged", 120)
                found = compare(teller, store)
                wrong = _unverified(own, home, teller, store, package)
                with Client(server) as client:
                    refused = len(client.events("refused"))
                    heals = client.read("/status")["heals"]
    finally:
        disk.close()
    record_fault(
        "power cut, SQLite on ext4",
        cuts=cuts, acknowledged=len(teller.acknowledged), lost=lost + found.lost,
        counted_twice=twice + found.twice, promoted_adapters_damaged=broken, refused=refused,
        answers=len(teller.answers), unverified=wrong, heals=heals,
    )  # fmt: skip
    assert (lost, twice, found.lost, found.twice, broken, wrong) == (0,) * 6


def _whole(own: Path, store: SqlStore) -> bool:
    """Whether the newest promotion's adapter is as it was promoted."""
    newest = store.newest_promotion()
    assert newest is not None
    name, version = newest.tag.split(":")
    file = own / "models" / name / version / ADAPTER
    return file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == newest.sha256


def _unverified(own: Path, home: Path, teller: Teller, store: SqlStore, package: Package) -> int:
    """`unverified` with the snapshots that lie on the disk."""
    use_home(own)
    try:
        return unverified(teller, store, open_package(package.tag))
    finally:
        use_home(home)
