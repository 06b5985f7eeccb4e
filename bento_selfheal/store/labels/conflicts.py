"""Labels that disagree: which one stands, and who may take one back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, tuple_

from bento_selfheal.core.labels import NO_LABEL
from bento_selfheal.core.records import WAITS, FeedbackRecord
from bento_selfheal.store import tables as t
from bento_selfheal.store.keys import Labels, Place, chunks

MOST_REVISIONS = 100
"""Labels that one row may have had: whoever changes it more often holds up everybody else."""
MOST_VOTES = 100
"""Sources that may vote about one row."""

Policy = Literal["first", "last", "votes", "priority"]
Owner = tuple[str | None, str | None]
"""Who gave a label, and its class where the packaged model does not have it."""


@dataclass(frozen=True)
class ConflictRule:
    """Which of several labels of one row stands."""

    policy: Policy = "first"
    priority: tuple[str, ...] = ()
    """Sources, the most trusted one first; all others come after them."""

    def rank(self, source: str | None) -> int:
        """Place of a source in the order; the lower one decides."""
        return self.priority.index(source) if source in self.priority else len(self.priority)


def names_of(r: FeedbackRecord) -> list[Place]:
    """What a label counts once for: its row, and its key."""
    return [(r.request, r.row)] if r.key is None else [(r.request, r.row), (r.key, WAITS)]


class Standing:
    """Decides label by label, under the lock of the logs, which one stands.

    Args:
        c: The transaction that writes the labels.
        rule: Which one stands.
        labels: Those that are to be written.
        kept: Those that are kept; read, never changed.
    """

    def __init__(
        self, c: Connection, rule: ConflictRule, labels: Sequence[FeedbackRecord], kept: Labels
    ) -> None:
        self._c, self._rule = c, rule
        told = rule.policy in ("votes", "priority")
        asked = [r for r in labels if told or r.label == NO_LABEL]
        self._owners = _owners(c, {name for r in asked for name in names_of(r)}, kept)
        self._votes = _votes(c, labels) if rule.policy == "votes" else {}
        self._changed: set[bytes] = set()

    def after(self, r: FeedbackRecord, kept: int, revision: int) -> FeedbackRecord | None:
        """The label that stands once another one has come; None where that changes nothing.

        Args:
            r: The label, or that one is taken back.
            kept: The label that stood; `NO_LABEL` for none.
            revision: Its revision; -1 where there never was one.
        """
        if self._rule.policy == "votes":
            return self._voted(r, kept)
        if r.label == kept:
            return None
        if kept == NO_LABEL:
            return r
        if r.label == NO_LABEL:
            return r if self._owner(r) == r.source else None
        return r if self._replaces(r) else None

    def wrote(self, r: FeedbackRecord) -> None:
        """Note that a label stands from now on."""
        self._owners |= dict.fromkeys(names_of(r), (r.source, r.new_class))

    def write_votes(self) -> None:
        """Write the votes that were cast, changed or withdrawn."""
        for part in chunks(sorted(self._changed)):
            self._c.execute(delete(t.votes).where(t.votes.c.name.in_(part)))
            rows = [_vote_row(v, r) for v in part for r in self._votes[v].values()]
            if rows:
                self._c.execute(insert(t.votes), rows)

    def _replaces(self, r: FeedbackRecord) -> bool:
        if self._rule.policy == "last":
            return True
        if self._rule.policy == "first":
            return r.corrects
        own, other = self._rule.rank(r.source), self._rule.rank(self._owner(r))
        return own < other or (own == other and r.corrects)

    def _owner(self, r: FeedbackRecord) -> str | None:
        """The source of the label that is kept."""
        return self._owned(r)[0]

    def _owned(self, r: FeedbackRecord) -> Owner:
        found = [self._owners[name] for name in names_of(r) if name in self._owners]
        return found[-1] if found else (None, None)

    def _voted(self, r: FeedbackRecord, kept: int) -> FeedbackRecord | None:
        """The label with most votes; where several have as many, the one that stands."""
        name = vote_name(r)
        votes = self._votes.setdefault(name, {})
        if not votes and kept != NO_LABEL:  # of before the votes were counted
            owner, new = self._owned(r)
            votes[owner or ""] = replace(r, label=kept, source=owner, new_class=new)
        own = votes.get(r.source or "")
        if r.label == NO_LABEL:
            if votes.pop(r.source or "", None) is None:
                return None
        else:
            fresh = own is None and len(votes) < MOST_VOTES
            changed = own is not None and own.label != r.label and r.corrects
            if not (fresh or changed):
                return None
            votes[r.source or ""] = r
        self._changed.add(name)
        return _winner(r, votes, kept)


def _winner(
    r: FeedbackRecord, votes: dict[str, FeedbackRecord], kept: int
) -> FeedbackRecord | None:
    """The label that wins, on the row of the newest vote; None where the one that stood does."""
    counts: dict[int, int] = {}
    for vote in votes.values():
        counts[vote.label] = counts.get(vote.label, 0) + 1
    most = max(counts.values(), default=0)
    first = [label for label, count in counts.items() if count == most]
    if kept in first:
        # A vote that is withdrawn was heard, also where the others keep the label.
        return replace(r, label=kept) if r.label == NO_LABEL else None
    if not first:
        return r
    won = next(v for v in reversed(votes.values()) if v.label == first[0])
    return replace(r, label=won.label, source=won.source, new_class=won.new_class)


def vote_name(r: FeedbackRecord) -> bytes:
    """What votes are about, 16 bytes: the row's key where it has one, else its request and row."""
    return r.key or r.request + r.row.to_bytes(4, "big", signed=True)


def _vote_row(name: bytes, r: FeedbackRecord) -> dict[str, Any]:
    return {
        "name": name, "source": r.source or "", "label": r.label, "new_class": r.new_class,
        "time": r.time,
    }  # fmt: skip


def _votes(c: Connection, labels: Sequence[FeedbackRecord]) -> dict[bytes, dict[str, Any]]:
    """The votes about the rows of some labels, by source, the oldest first."""
    v, by_name = t.votes.c, {vote_name(r): r for r in labels}
    votes: dict[bytes, dict[str, Any]] = {}
    for part in chunks(sorted(by_name)):
        query = select(t.votes).where(v.name.in_(part)).order_by(v.time, v.source)
        for row in c.execute(query):
            name = bytes(row.name)
            votes.setdefault(name, {})[row.source] = replace(
                by_name[name], label=row.label, source=row.source or None, time=row.time,
                new_class=row.new_class,
            )  # fmt: skip
    return votes


def _owners(c: Connection, names: set[Place], kept: Labels) -> dict[Place, Owner]:
    """Who gave each label that is kept."""
    f = t.feedback.c
    known = {name: kept[name][1] for name in names if name in kept}
    rows = [(*name, revision) for name, revision in known.items() if name[1] != WAITS]
    keys = [(name[0], revision) for name, revision in known.items() if name[1] == WAITS]
    owners: dict[Place, Owner] = {}
    given = (f.source, f.new_class)
    for part in chunks(sorted(rows)):
        query = select(f.request, f.row, *given)
        for r in c.execute(query.where(tuple_(f.request, f.row, f.revision).in_(part))):
            owners[bytes(r.request), r.row] = (r.source, r.new_class)
    for own in chunks(sorted(keys)):
        query = select(f.key, *given).where(tuple_(f.key, f.revision).in_(own))
        owners |= {(bytes(r.key), WAITS): (r.source, r.new_class) for r in c.execute(query)}
    return owners
