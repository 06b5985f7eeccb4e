"""One feed at work: rows in, labels in the store, and the place behind them."""

from __future__ import annotations

import csv
import io
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bento_selfheal.config.feeds import Feed
from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.core.records import Event, FeedbackOutcome, FeedbackRecord
from bento_selfheal.core.text import visible
from bento_selfheal.errors import FeedError, InvalidInput, LeaseLost, StoreError, brief
from bento_selfheal.feeds.source import Part, Source
from bento_selfheal.labelling.cells import item_of
from bento_selfheal.labelling.item import Rejected
from bento_selfheal.labelling.records import RecordReader
from bento_selfheal.store import SqlStore

log = logging.getLogger(__name__)

LONGEST_RETRY = 60.0
COUNTS = ("rows", "accepted", "already_known", "waiting", "unmatched", "in_conflict", "rejected")
NOT_KEPT = ("in_conflict", "rejected")
OWN = ""
"""The item under which a feed's counts are kept."""


@dataclass(frozen=True)
class Leader:
    """What a feed needs of the runner while that leads."""

    token: int
    """The lease's fencing token."""
    reader: RecordReader


class FeedThread:
    """Fetches the labels of a feed in a thread.

    Labels are written first, and then the place behind them. After a crash between the two they
    are read again, and each counts once, as whenever labels are sent again.

    Args:
        feed: Its settings.
        source: Reads it.
        store: Where labels and the place go.
        leader: What the runner gives while it leads, else None.
        folder: Gets the rows that are not kept.

    Attributes:
        thread: The thread.
    """

    def __init__(
        self,
        feed: Feed,
        source: Source,
        store: SqlStore,
        leader: Callable[[], Leader | None],
        folder: Path,
    ) -> None:
        self._feed = feed
        self._source = source
        self._store = store
        self._leader = leader
        self._folder = folder / feed.name
        self._own: dict[str, Any] = {}
        self._failing = ""
        self.thread = PeriodicThread(
            f"selfheal-feed-{feed.name}", self.look, feed.seconds, at_once=True,
            longest_retry=LONGEST_RETRY,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """What `/status` shows of it."""
        kind = "query" if self._feed.folder is None else "folder"
        shown = {name: self._own.get(name, 0) for name in (*COUNTS, "last")}
        return {"name": self._feed.name, "kind": kind, **shown, "failing": self._failing}

    def look(self) -> None:
        """Fetch what is new.

        Raises:
            FeedError: It cannot be read to its end.
            StoreError: The store is out of reach.
        """
        if self._leader() is None:
            return
        try:
            self._fetch()
        except LeaseLost as error:
            log.info("feed %s: %s", self._feed.name, error)
            return
        except StoreError:
            raise
        except Exception as error:  # such as a full disk: people are told of it all the same
            known = isinstance(error, FeedError)
            self._tell_failing(str(error) if known else f"feed {self._feed.name}: {brief(error)}")
            raise
        if self._failing:
            self._failing = ""
            self._tell("feed_recovered", {})

    def _fetch(self) -> None:
        places = self._store.feed_places(self._feed.name)
        self._own = places.pop(OWN, None) or dict.fromkeys(COUNTS, 0)
        before = self._own
        try:
            for part in self._source.parts(places):
                leader = self._leader()
                if leader is None or self.thread.stopping:
                    return
                self._take(part, leader)
        finally:
            if (rows := sum(self._own[name] - before[name] for name in NOT_KEPT)) > 0:
                self._tell("feed_rejected", {"rows": rows, "folder": str(self._folder)})
        if (gone := self._source.gone(places)) and (leader := self._leader()) is not None:
            self._store.forget_places(leader.token, self._feed.name, gone)

    def _take(self, part: Part, leader: Leader) -> None:
        """Keep a part, and then where the feed stands behind it."""
        records, numbers, bad = self._records(part, leader.reader)
        own = {**self._own, "rows": self._own["rows"] + len(part.rows)}
        own["rejected"] += len(bad)
        if records:
            bad += self._keep(records, numbers, own)
        if bad:
            own["files"] = own.get("files", 0) + 1
            self._set_aside(part, sorted(bad, key=lambda one: one.item), own["files"])
        own["last"] = time.time() if len(part.rows) else own.get("last", 0)
        counted = {name: own[name] - self._own[name] for name in COUNTS}
        read = {"item": part.item, **counted} if counted["rows"] else None
        places = {OWN: own, part.item: part.place}
        self._store.put_places(leader.token, self._feed.name, places, read)
        self._own = own

    def _records(
        self, part: Part, reader: RecordReader
    ) -> tuple[list[FeedbackRecord], list[int], list[Rejected]]:
        """The labels of a part with the numbers of their rows, and the rows that are none."""
        now, records, numbers, bad = time.time(), [], [], []
        for i in range(len(part.rows)):
            loc = ("items", i)
            try:
                if i in part.rows.wrong:
                    raise InvalidInput(loc, part.rows.wrong[i], "cells")
                item = item_of(part.rows.row(i), loc)
                item.source = self._feed.name
                record = reader.read(item, loc, now, self._feed.token)
            except InvalidInput as error:
                bad.append(Rejected.of(i, error))
                continue
            if record is not None:
                records.append(record)
                numbers.append(i)
        return records, numbers, bad

    def _keep(
        self, records: list[FeedbackRecord], numbers: list[int], own: dict[str, Any]
    ) -> list[Rejected]:
        """Write labels and count them; returns those in conflict."""
        result = self._store.add_feedback(records)
        for outcome in result.outcomes:
            own["accepted"] += outcome is FeedbackOutcome.ACCEPTED
            own["already_known"] += outcome is FeedbackOutcome.KNOWN
        own["waiting"] += len(result.waiting)
        own["unmatched"] += len(result.expired)
        own["in_conflict"] += len(result.kept)
        return [Rejected(numbers[j], "in conflict: another label is kept") for j in result.kept]

    def _set_aside(self, part: Part, bad: list[Rejected], number: int) -> None:
        """Write rows that are not kept to a file, whole or not at all; again after a crash."""
        text = io.StringIO(newline="")
        out = csv.writer(text)
        out.writerow(["from", "line", "reason", *part.rows.cells])
        for one in bad:
            cells = part.rows.row(one.item).values()
            told = ("" if cell is None else visible(str(cell)) for cell in cells)
            out.writerow([part.item, part.rows.lines[one.item], visible(one.reason), *told])
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = self._folder / ".part"
        beside.write_text(text.getvalue(), encoding="utf-8")
        os.replace(beside, self._folder / f"{number:06d}.csv")

    def _tell_failing(self, reason: str) -> None:
        if reason != self._failing:
            self._failing = reason
            self._tell("feed_failing", {"reason": reason})

    def _tell(self, kind: str, detail: dict[str, Any]) -> None:
        self._store.add_event(Event(kind, {"feed": self._feed.name, **detail}, time.time()))
