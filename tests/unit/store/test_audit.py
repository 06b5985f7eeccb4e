"""The audit: a chain that many writers append to, in which no entry can be changed unseen."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from bento_selfheal.core.audit.entry import Head
from bento_selfheal.core.records import Event
from bento_selfheal.errors import StoreError
from bento_selfheal.store import SqlStore, StepRecord

ENTRIES = 6


@pytest.fixture
def url(fresh: Callable[[], str]) -> str:
    return fresh()


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    store = SqlStore(url)
    store.create()
    store.begin_status({"state": "HEALTHY"})
    yield store
    store.close()


@pytest.fixture
def chain(store: SqlStore) -> SqlStore:
    """A store with some entries."""
    for number in range(ENTRIES):
        store.add_command("forget", f"desk-{number}", by="anna")
    return store


def by_hand(store: SqlStore, statement: str) -> None:
    """What somebody does who can write the database."""
    with store._db.engine.begin() as c:
        c.execute(text(statement))


def acts(store: SqlStore) -> list[tuple[str, str, str, dict[str, Any]]]:
    return [(e.act, e.by, e.role, json.loads(e.detail)) for e in store.audit()]


def test_what_operators_do(store: SqlStore) -> None:
    """A command has an entry with who gave it, in what role, and what about; the chain is whole."""
    assert store.verify_audit().entries == 0
    store.add_command("heal", by="anna")
    store.add_command("forget", "shop/till-3", by="berta")
    assert acts(store) == [
        ("heal", "anna", "operate", {}),
        ("forget", "berta", "operate", {"argument": "shop/till-3"}),
    ]
    verdict = store.verify_audit()
    assert (verdict.entries, verdict.broken, verdict.head.seq) == (2, 0, 2)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("update audit set by = 'berta' where seq = 3", 3),
        ("update audit set time = time + 1 where seq = 1", 1),
        ("update audit set detail = '{}' where seq = 6", 6),
        ("update audit set hash = (select hash from audit where seq = 2) where seq = 4", 4),
        ("delete from audit where seq = 4", 4),
        ("delete from audit where seq = 1", 1),
        ("delete from audit where seq > 4", 5),
        ("delete from audit", 1),
        ("update audit set seq = 7 where seq = 6", 6),
        ("insert into audit select 7, time, act, by, role, detail, hash from audit where seq = 6",
         7),
        ("insert into audit select 0, time, act, by, role, detail, hash from audit where seq = 2",
         0),
        ("insert into audit select -7, time, act, by, role, detail, hash from audit where seq = 2",
         -7),
    ],
    ids=["who", "when", "what", "hash", "cut", "first", "end", "all", "moved", "added", "before",
         "long-before"],
)  # fmt: skip
def test_tampering_is_found(chain: SqlStore, change: str, broken: int) -> None:
    """Whatever is changed by SQL, the first entry that is not as it was written is named; later
    acts do not heal the chain."""
    by_hand(chain, change)
    found = chain.verify_audit()
    assert (found.broken, bool(found.why)) == (broken, True)
    if "7" not in change:
        chain.add_command("pause", by="anna")
        assert chain.verify_audit().broken == broken


def test_a_chain_that_was_written_anew(chain: SqlStore) -> None:
    """Who rewrites the whole chain is found by an end of it that was noted elsewhere."""
    noted = Head.parse(str(chain.verify_audit().head))
    chain.add_command("pause", by="anna")
    assert chain.verify_audit(noted).broken == 0
    by_hand(chain, "delete from audit")
    by_hand(chain, "delete from meta where key = 'audit_head'")
    assert chain.verify_audit(noted).why == f"entry {noted.seq} was noted and is missing"
    for number in range(ENTRIES + 1):
        chain.add_command("forget", f"other-{number}", by="anna")
    assert chain.verify_audit().broken == 0
    assert chain.verify_audit(noted).broken == noted.seq


def test_places_of_the_chain_that_are_none(chain: SqlStore) -> None:
    """Where its begin or its end was overwritten by hand, this is said, and not a traceback."""
    by_hand(chain, "update meta set value = 'zz' where key = 'audit_head'")
    with pytest.raises(
        StoreError, match=r"audit_head: 'zz' is not SEQ:HASH: the audit was changed"
    ):
        chain.verify_audit()


def test_writers_at_once_make_one_chain(url: str, store: SqlStore) -> None:
    """Many processes append at the same time, and the chain has every entry once."""
    stores = [SqlStore(url) for _ in range(4)]
    begin = threading.Barrier(len(stores))

    def write(one: SqlStore) -> None:
        begin.wait()
        for number in range(25):
            one.add_command("forget", f"desk-{number}", by="anna")

    threads = [threading.Thread(target=write, args=(one,)) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in stores:
        one.close()
    verdict = store.verify_audit()
    assert (verdict.broken, verdict.entries, verdict.head.seq) == (0, 100, 100)


def test_retention_keeps_the_chain_whole(chain: SqlStore) -> None:
    """What retention took is no break: the chain begins behind it. A head that it took says so, and
    vouches for nothing."""
    noted = [Head(e.seq, e.hash) for e in chain.audit()]
    assert chain.retire_audit(0.0, rows_kept=4, limit=1) == 1
    assert chain.retire_audit(0.0, rows_kept=4, limit=10) == 1
    assert chain.retire_audit(0.0, rows_kept=4, limit=10) == 0
    assert chain.verify_audit(noted[1]).broken == 0
    assert "entry 1 was noted and is kept no more" in chain.verify_audit(noted[0]).why
    assert chain.verify_audit(noted[1]._replace(hash="0" * 64)).broken == 2
    verdict = chain.verify_audit()
    assert (verdict.entries, verdict.broken) == (4, 0)
    assert chain.retire_audit(time.time() + 1, rows_kept=4, limit=10) == 4
    assert chain.verify_audit().broken == 0
    chain.add_command("heal", by="anna")
    assert [e.seq for e in chain.audit()] == [ENTRIES + 1]
    assert chain.verify_audit().broken == 0
    by_hand(chain, "update audit set by = 'x'")
    assert chain.verify_audit().broken == ENTRIES + 1


def test_thresholds_of_a_step(store: SqlStore) -> None:
    """A change of the thresholds is in the audit with who made it, if its step was written."""
    token = store.acquire_lease("a", 60)
    assert token is not None
    detail = {"miss_cost": 2.0, "by": "root", "role": "file"}
    store.commit(token, StepRecord(b"", {}, events=[Event("thresholds", detail, 1.0)]))
    [(act, by, role, kept)] = acts(store)
    assert (act, by, role, kept) == ("thresholds_changed", "root", "file", detail)
    assert store.verify_audit().broken == 0
