"""Feeds: labels of a query and of a folder are kept once, whatever fails in between."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed import Crash

from bento_selfheal.config.feeds import Feed
from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.errors import FeedError, StoreError
from bento_selfheal.feeds import folder as folder_module
from bento_selfheal.feeds import query as query_module
from bento_selfheal.feeds.feed import FeedThread
from bento_selfheal.feeds.feeds import Feeds
from bento_selfheal.labelling.key_hash import KeyHasher
from bento_selfheal.store import SqlStore

CLASSES = [0, 1]
LEASE = 1


@pytest.fixture
def led(store: SqlStore) -> SqlStore:
    """A store with a runner that leads."""
    store.begin_status({})
    assert store.acquire_lease("a", 60) == LEASE
    return store


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A database with a table of labels."""
    with closing(sqlite3.connect(tmp_path / "desk.db", isolation_level=None)) as db:
        db.execute("create table labels (at integer, tx text, fraud)")
        yield db


def put(desk: sqlite3.Connection, *rows: tuple[Any, ...]) -> None:
    desk.executemany("insert into labels values (?, ?, ?)", rows)


def query_feed(tmp_path: Path, **more: Any) -> Feed:
    given = {
        "name": "desk", "key": "tx", "label": "fraud", "cursor": "at",
        "url": f"sqlite:///{tmp_path / 'desk.db'}", "query": "select * from labels;", **more,
    }  # fmt: skip
    return Feed(**given)


def folder_feed(tmp_path: Path) -> Feed:
    (tmp_path / "in").mkdir(exist_ok=True)
    return Feed(name="night", key="tx", label="fraud", folder=tmp_path / "in")


def opened(store: SqlStore, tmp_path: Path, feed: Feed) -> FeedThread:
    """A feed as a runner that has just started has it."""
    feeds = Feeds(store, Settings(feeds=(feed,)), tmp_path / "state", lambda: LEASE)
    feeds.serve(CLASSES)
    return feeds._feeds[0]


def look(feed: FeedThread) -> dict[str, Any]:
    """Look twice: a file must be the same both times."""
    feed.look()
    feed.look()
    return feed.state()


def kept(store: SqlStore) -> list[FeedbackRecord]:
    found = store.read_log(0, 0, 10_000)
    return [entry for entry in found if isinstance(entry, FeedbackRecord)]


def keys_of(store: SqlStore, *keys: str) -> list[bytes]:
    hasher = KeyHasher(store.meta("secret") or "")
    return [hasher.hash_one(key, "operator") for key in keys]


def aside(tmp_path: Path) -> list[tuple[str, str]]:
    """The key and the reason of each row that was not kept."""
    found = []
    for path in sorted((tmp_path / "state").glob("feeds/*/*.csv")):
        with path.open(newline="") as file:
            found += [(row["key"], row["reason"]) for row in csv.DictReader(file)]
    return found


def test_a_query(led: SqlStore, desk: sqlite3.Connection, tmp_path: Path) -> None:
    """New rows of a query are kept in the feed's name, by the keys of predictions; rows that share
    the newest value of the cursor are not missed, and none is counted twice."""
    predicted = PredictionRecord(
        b"r" * 12, np.zeros((1, 2), np.float32), np.zeros(1, np.float32), 1, 0.0,
        keys=keys_of(led, "a")[0],
    )  # fmt: skip
    led.append_predictions([predicted])
    put(desk, (1, "a", 1), (2, "b", "0"))
    feed = opened(led, tmp_path, query_feed(tmp_path))
    assert look(feed)["accepted"] == 2
    assert [(r.label, r.source, r.row) for r in kept(led)] == [(1, "desk", 0), (0, "desk", -1)]
    put(desk, (2, "c", 1), (3, "d", 1))
    state = look(feed)
    assert (state["rows"], state["accepted"], state["already_known"]) == (4, 4, 0)
    assert [r.key for r in kept(led)] == keys_of(led, "a", "b", "c", "d")


def test_bad_rows_are_set_aside(led: SqlStore, desk: sqlite3.Connection, tmp_path: Path) -> None:
    """Bad and conflicting rows are counted, written to a file once, and told in an event; the
    others are kept."""
    put(desk, (1, "a", 1), (2, "b", 0.5), (3, None, 1), (4, "a", 0), (5, "c", 0))
    feed = opened(led, tmp_path, query_feed(tmp_path))
    state = look(feed)
    assert (state["accepted"], state["rejected"], state["in_conflict"]) == (2, 2, 1)
    assert [key for key, _ in aside(tmp_path)] == ["b", "", "a"]
    assert "0.5 is not a class" in aside(tmp_path)[0][1]
    look(opened(led, tmp_path, query_feed(tmp_path)))
    assert len(aside(tmp_path)) == 3
    told = [e for e in led.events() if e.kind == "feed_rejected"]
    assert [(e.detail["feed"], e.detail["rows"]) for e in told] == [("desk", 3)]


def test_a_database_that_is_away(led: SqlStore, desk: sqlite3.Connection, tmp_path: Path) -> None:
    """A query that fails is told once, in the status and as an event, and goes on afterwards."""
    feed = opened(led, tmp_path, query_feed(tmp_path, query="select * from later"))
    for _ in range(2):
        with pytest.raises(FeedError, match="no such table: later"):
            feed.look()
    assert "no such table" in feed.state()["failing"]
    desk.execute("create table later as select 1 as at, 'a' as tx, 1 as fraud")
    assert look(feed)["accepted"] == 1
    assert (feed.state()["failing"], [e.kind for e in led.events()]) == (
        "", ["feed_failing", "feed_recovered"],
    )  # fmt: skip


def test_a_folder(led: SqlStore, tmp_path: Path) -> None:
    """Files are read once they stay the same, and again when they change; a bad one is told and
    keeps no other waiting."""
    feed = opened(led, tmp_path, folder_feed(tmp_path))
    files = tmp_path / "in"
    (files / "a.csv").write_text("tx,fraud\na,1\nb,0\n")
    (files / "a.csv.rejected.csv").write_text("tx,fraud\nx,1\n")
    (files / "bad.parquet").write_bytes(b"PAR1")
    (files / "c.csv").write_text("tx,fraud\nc,1,\nd,1\n")
    feed.look()
    assert kept(led) == []
    with pytest.raises(FeedError, match=r"bad\.parquet"):
        feed.look()
    assert [r.key for r in kept(led)] == keys_of(led, "a", "b", "d")
    assert aside(tmp_path) == [("", "3 cells where the header has 2")]
    (files / "bad.parquet").unlink()
    (files / "a.csv").write_text("tx,fraud\na,1\nb,0\ne,1\n")
    state = look(feed)
    assert (state["accepted"], state["already_known"], state["rejected"]) == (4, 2, 1)
    again = look(opened(led, tmp_path, folder_feed(tmp_path)))
    assert (again["rows"], again["accepted"]) == (state["rows"], 4)
    assert set(led.feed_places("night")) == {"", "a.csv", "c.csv"}


def test_what_is_no_file(led: SqlStore, tmp_path: Path) -> None:
    """A link to nowhere, a folder, a pipe and a name that is not UTF-8 are told of, and keep no
    file waiting."""
    feed = opened(led, tmp_path, folder_feed(tmp_path))
    files = tmp_path / "in"
    (files / "a.csv").symlink_to(tmp_path / "nowhere.csv")
    (files / "b.parquet").mkdir()
    os.mkfifo(files / "c.csv")
    Path(os.fsdecode(bytes(files) + b"/d-\xff.csv")).write_text("tx,fraud\nx,1\n")
    (files / "e.csv").write_text("tx,fraud\na,1\n")
    with pytest.raises(FeedError):
        feed.look()
    with pytest.raises(FeedError, match=r"a\.csv: .*No such file.*\(and 3 more files\)"):
        feed.look()
    assert [r.key for r in kept(led)] == keys_of(led, "a")
    (files / "a.csv").unlink()
    (files / "b.parquet").rmdir()
    (files / "c.csv").unlink()
    with pytest.raises(FeedError, match=r"d-\\udcff\.csv: its name is not UTF-8"):
        feed.look()


def test_rows_that_cannot_be_set_aside(
    led: SqlStore, desk: sqlite3.Connection, tmp_path: Path
) -> None:
    """A disk that takes no file is told of in the status and as an event; nothing is lost."""
    put(desk, (1, "a", 1), (2, "b", 0.5), (3, "c", 1))
    feed = opened(led, tmp_path, query_feed(tmp_path))
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "feeds").touch()
    with pytest.raises(OSError, match="feeds"):
        feed.look()
    assert "feed desk: NotADirectoryError" in feed.state()["failing"]
    (tmp_path / "state" / "feeds").unlink()
    assert (look(feed)["rejected"], feed.state()["failing"]) == (1, "")
    assert [r.key for r in kept(led)] == keys_of(led, "a", "c")
    assert [key for key, _ in aside(tmp_path)] == ["b"]
    kinds = [e.kind for e in led.events()]
    assert kinds == ["feed_failing", "feed_rejected", "feed_recovered"]


def test_a_cursor_that_is_no_place(led: SqlStore, desk: sqlite3.Connection, tmp_path: Path) -> None:
    """Behind an infinite cursor no row could ever come: it is told of."""
    put(desk, (9e999, "a", 1))
    with pytest.raises(FeedError, match="the cursor is inf, behind which nothing can come"):
        opened(led, tmp_path, query_feed(tmp_path)).look()


def test_a_cursor_of_several_types(led: SqlStore, tmp_path: Path) -> None:
    """In a column of SQLite that holds numbers, texts and bytes, the rows of the first type are
    read, also those that come later; the status and one event name a value of another type."""
    with closing(sqlite3.connect(tmp_path / "desk.db", isolation_level=None)) as db:
        db.execute("create table labels (at, tx text, fraud)")
        put(db, (1, "a", 1), ("x9", "b", 1), (2, "c", 0), (b"z", "d", 1))
        feed = opened(led, tmp_path, query_feed(tmp_path))
        said = "feed desk: the cursor is 'x9', a text, and a number in the rows that were read"
        for _ in range(2):
            with pytest.raises(FeedError, match=said):
                feed.look()
        put(db, (3, "e", 1))
        with pytest.raises(FeedError, match=said):
            feed.look()
        assert [r.key for r in kept(led)] == keys_of(led, "a", "c", "e")
        assert said in feed.state()["failing"]
        assert [e.kind for e in led.events()] == ["feed_failing"]
        db.execute("update labels set at = 4 where tx in ('b', 'd')")
        assert (look(feed)["accepted"], feed.state()["failing"]) == (5, "")


def test_a_number_behind_texts(led: SqlStore, desk: sqlite3.Connection, tmp_path: Path) -> None:
    """SQLite has numbers before all texts: one that comes behind a text is named, not passed by."""
    put(desk, ("m1", "a", 1))
    feed = opened(led, tmp_path, query_feed(tmp_path))
    feed.look()
    put(desk, (5, "b", 1), ("m2", "c", 1), (None, "d", 1))
    with pytest.raises(FeedError, match="the cursor is 5, a number, and a text in the rows"):
        feed.look()
    assert [r.key for r in kept(led)] == keys_of(led, "a", "c")


@pytest.mark.parametrize("cursor", [b"z", 9e999], ids=["bytes", "infinite"])
def test_one_cursor_that_is_none(led: SqlStore, tmp_path: Path, cursor: Any) -> None:
    """The rows of the page beside it are read."""
    with closing(sqlite3.connect(tmp_path / "desk.db", isolation_level=None)) as db:
        db.execute("create table labels (at, tx text, fraud)")
        put(db, (1, "a", 1), (cursor, "b", 1))
        feed = opened(led, tmp_path, query_feed(tmp_path))
        with pytest.raises(FeedError, match=r"the cursor is (b'z'; a number|inf, behind)"):
            feed.look()
        assert [r.key for r in kept(led)] == keys_of(led, "a")


def test_colons_and_comments(led: SqlStore, desk: sqlite3.Connection, tmp_path: Path) -> None:
    """A query is sent as it is written: a colon names no parameter, and a comment may end it."""
    put(desk, (1, ":a", 1), (2, "b", 1))
    query = "select at, tx, fraud from labels where tx = ':a' -- what is new;"
    assert look(opened(led, tmp_path, query_feed(tmp_path, query=query)))["accepted"] == 1
    assert [r.key for r in kept(led)] == keys_of(led, ":a")


@pytest.mark.parametrize("kind", ["query", "folder"])
def test_killed_anywhere(
    led: SqlStore,
    desk: sqlite3.Connection,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed before or after any of its writes, a feed loses and doubles no label, and no row that
    is set aside."""
    for module in (query_module, folder_module):
        monkeypatch.setattr(module, "PART_ROWS", 7)
    rows = [(n // 3, f"t{n}", 0.5 if n % 10 == 0 else n % 2) for n in range(40)]
    put(desk, *rows)
    feed = query_feed(tmp_path) if kind == "query" else folder_feed(tmp_path)
    lines = "".join(f"{key},{label}\n" for _, key, label in rows)
    (tmp_path / "in").mkdir(exist_ok=True)
    (tmp_path / "in" / "a.csv").write_text(f"tx,fraud\n{lines}")
    crashes = 0
    for write in range(1, 100):
        dying = opened(DyingStore(led, write), tmp_path, feed)  # type: ignore[arg-type]
        try:
            look(dying)
        except Crash:
            crashes += 1
        else:
            break
    assert crashes > 5
    expected = keys_of(led, *(key for _, key, label in rows if label != 0.5))
    assert sorted(r.key or b"" for r in kept(led)) == sorted(expected)
    assert [key for key, _ in aside(tmp_path)] == ["t0", "t10", "t20", "t30"]


class DyingStore:
    """A store whose process dies at a write of its own: odd ones before it, even ones after it."""

    def __init__(self, store: SqlStore, at: int) -> None:
        self._store = store
        self._left = 1 + at % 3
        self._after = at % 2 == 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._dying(found) if name in ("add_feedback", "put_places") else found

    def _dying(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def written(*arguments: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Crash
            done = write(*arguments)
            if self._left == 0:
                raise Crash
            return done

        return written


def test_only_the_leader_writes_places(
    led: SqlStore, desk: sqlite3.Connection, tmp_path: Path
) -> None:
    """A runner that was paused while another took over moves no place back."""
    put(desk, (1, "a", 1))
    late = opened(led, tmp_path, query_feed(tmp_path))
    led.release_lease("a")
    assert led.acquire_lease("b", 60) == LEASE + 1
    late.look()
    assert led.feed_places("desk") == {}


def test_a_store_that_is_away(
    led: SqlStore, desk: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is out of reach is no fault of the feed: the thread tries again."""
    put(desk, (1, "a", 1))
    feed = opened(led, tmp_path, query_feed(tmp_path))

    def away(*_: Any) -> None:
        raise StoreError("away")

    monkeypatch.setattr(led, "add_feedback", away)
    with pytest.raises(StoreError, match="away"):
        feed.look()
    monkeypatch.undo()
    assert look(feed)["accepted"] == 1


@pytest.mark.parametrize(
    "given",
    [
        {"name": "a", "key": "k", "label": "y"},
        {"name": "a", "key": "k", "label": "y", "url": "sqlite://", "query": "select 1"},
        {"name": "a", "key": "k", "label": "y", "folder": "/in", "query": "select 1"},
        {"name": "a/b", "key": "k", "label": "y", "folder": "/in"},
    ],
)
def test_settings_that_are_no_feed(given: dict[str, str]) -> None:
    """A feed is a whole query or a folder, and its name can be that of a folder."""
    with pytest.raises(ValueError, match=r"feed|name|give either"):
        Settings(feeds=(given,))
    good = {"name": "a", "key": "k", "label": "y", "folder": "/in"}
    with pytest.raises(ValueError, match="same name"):
        Settings(feeds=(good, good))


def test_settings_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable holds feeds as JSON."""
    text = '[{"name": "night", "key": "tx", "label": "fraud", "folder": "/in"}]'
    monkeypatch.setenv("SELFHEAL_FEEDS", text)
    assert Settings().feeds[0].folder == Path("/in")


def test_batches_are_in_the_audit(led: SqlStore, desk: sqlite3.Connection, tmp_path: Path) -> None:
    """The audit has one entry for each batch that was read, with what became of its rows and none
    of their keys; a look that finds nothing leaves none."""
    put(desk, (1, "secret-key", 1), (2, "b", 0.5))
    feed = opened(led, tmp_path, query_feed(tmp_path))
    look(feed)
    put(desk, (3, "c", 1))
    look(feed)
    entries = led.audit()
    assert [(e.act, e.by, e.role) for e in entries] == [("feed", "runner", "runner")] * 2
    first, second = (json.loads(e.detail) for e in entries)
    assert (first["feed"], first["rows"], first["accepted"], first["rejected"]) == ("desk", 2, 1, 1)
    assert (second["rows"], second["accepted"]) == (1, 1)
    assert "secret-key" not in entries[0].detail
    assert led.verify_audit().broken == 0
