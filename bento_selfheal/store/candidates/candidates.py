"""Candidates: which there are, where they stand, what they said, and what was counted of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from bento_selfheal.core.audit.entry import OPERATE, RUNNER
from bento_selfheal.core.candidates.candidate import (
    Candidate,
    CandidatePrediction,
    CandidateState,
)
from bento_selfheal.core.records import Event
from bento_selfheal.errors import CommandError
from bento_selfheal.store import codec
from bento_selfheal.store import tables as t
from bento_selfheal.store.audit.audit import append_audit
from bento_selfheal.store.candidates import tables as own
from bento_selfheal.store.connections import Part
from bento_selfheal.store.keys import chunks

LIVING = (CandidateState.RUNNING.value, CandidateState.WON.value)


class Candidates(Part):
    """The table of candidates, their predictions and their reports."""

    def candidates(self, *, living: bool = False, limit: int = 100) -> list[Candidate]:
        """The newest candidates, oldest first; ``living`` leaves out those that have ended."""
        c = own.candidates.c
        query = select(own.candidates).order_by(c.id.desc()).limit(limit)
        if living:
            query = query.where(c.state.in_(LIVING))
        with self._db.read() as connection:
            return [_candidate(r) for r in reversed(connection.execute(query).all())]

    def add_candidate(self, candidate: Candidate) -> Candidate:
        """Begin a candidate behind what is logged; with an event.

        Raises:
            CommandError: The package is a candidate already.
        """
        now, known, p = time.time(), own.candidates.c, t.predictions.c
        with self._db.write() as c:
            same = (known.tag == candidate.tag) & known.state.in_(LIVING)
            if c.execute(select(known.id).where(same)).first() is not None:
                raise CommandError(f"tag: {candidate.tag} is a candidate already")
            first = c.execute(select(func.coalesce(func.max(p.seq), 0))).scalar_one()
            values = {
                "tag": candidate.tag, "state": CandidateState.RUNNING.value,
                "ramp": list(candidate.ramp), "min_labels": candidate.min_labels, "step": 0,
                "first_prediction": first, "reason": "", "evidence": {}, "time": now,
                "by": candidate.by,
            }  # fmt: skip
            made = c.execute(insert(own.candidates).values(values)).inserted_primary_key[0]  # type: ignore[index]
            detail = {"candidate": made, "package": candidate.tag, "by": candidate.by}
            _note(c, "candidate_begun", detail, now)
            append_audit(c, "candidate_begun", candidate.by, detail)
            return _candidate(c.execute(select(own.candidates).where(known.id == made)).one())

    def move_candidate(
        self,
        candidate: Candidate,
        state: CandidateState,
        step: int,
        reason: str,
        *,
        by: str = "runner",
        evidence: dict[str, Any] | None = None,
    ) -> bool:
        """Move a candidate that is still where it was read, with an event; False where it is not.

        Whoever comes second, an operator or the runner, changes nothing.
        """
        known, now = own.candidates.c, time.time()
        values = {"state": state.value, "step": step, "reason": reason, "time": now, "by": by}
        here = (known.id == candidate.id) & (known.state == candidate.state.value)
        with self._db.write() as c:
            done = c.execute(
                update(own.candidates)
                .where(here, known.step == candidate.step)
                .values({**values, "evidence": evidence or candidate.evidence})
            )
            if not done.rowcount:
                return False
            kind = "candidate_step" if state is CandidateState.RUNNING else f"candidate_{state}"
            share = candidate.ramp[step]
            detail = {"candidate": candidate.id, "package": candidate.tag, "share": share / 100,
                      "reason": reason, "by": by}  # fmt: skip
            _note(c, kind, detail, now)
            append_audit(c, kind, by, detail, RUNNER if by == "runner" else OPERATE)
        return True

    def append_candidate_predictions(self, said: Sequence[CandidatePrediction]) -> None:
        """Write what candidates said, in one commit; nothing of requests erased meanwhile."""
        if not said:
            return
        rows = [
            {"candidate": s.candidate, "request": s.request, "rows": len(s.probabilities),
             "probabilities": codec.pack(s.probabilities), "answered": s.answered, "time": s.time}
            for s in said
        ]  # fmt: skip
        with self._db.write(lasting=False) as c:
            erased = _erased(c, [s.request for s in said])
            # An insert of no rows would be one of a row without values.
            if kept := [r for r in rows if r["request"] not in erased]:
                c.execute(insert(own.candidate_predictions), kept)

    def candidate_answers(self, candidate: int, places: Sequence[int]) -> list[Row[Any]]:
        """What a candidate said of the requests at these places of the prediction log: rows with
        ``seq``, ``request``, ``own_keys``, ``rows`` and ``probabilities``."""
        p, s = t.predictions.c, own.candidate_predictions.c
        columns = select(p.seq, p.request, p.own_keys, s.rows, s.probabilities, s.answered)
        both: Select[Any] = columns.join_from(
            t.predictions, own.candidate_predictions, p.request == s.request
        )
        with self._db.read() as c:
            found: list[Row[Any]] = []
            for part in chunks(sorted(set(places))):
                found += c.execute(both.where(p.seq.in_(part), s.candidate == candidate)).all()
            return found

    def report_candidate(self, candidate: int, reporter: str, figures: dict[str, Any]) -> None:
        """Write what one process has counted of a candidate so far."""
        r, values = own.candidate_reports.c, {"time": time.time(), "figures": figures}
        known = (r.candidate == candidate) & (r.reporter == reporter)
        with self._db.write(lasting=False) as c:
            if not c.execute(update(own.candidate_reports).where(known).values(values)).rowcount:
                named = {"candidate": candidate, "reporter": reporter}
                c.execute(insert(own.candidate_reports).values({**named, **values}))

    def candidate_counts(self, candidate: int) -> dict[str, Any]:
        """What all processes have counted of a candidate, added up; of texts the newest."""
        r = own.candidate_reports.c
        query = select(r.figures).where(r.candidate == candidate).order_by(r.time)
        with self._db.read() as c:
            each = c.execute(query).scalars().all()
        total: dict[str, Any] = {}
        for figures in each:
            for name, value in figures.items():
                total[name] = value if isinstance(value, str) else total.get(name, 0) + value
        return total

    def retire_candidate_predictions(self, limit: int) -> int:
        """Delete the oldest predictions of candidates whose request retention has taken."""
        s, p = own.candidate_predictions.c, t.predictions.c
        with self._db.write(lasting=False) as c:
            oldest = c.execute(select(p.time).order_by(p.seq).limit(1)).scalar()
            first = c.execute(select(s.seq, s.time).order_by(s.seq).limit(limit)).all()
            gone = [r.seq for r in first if oldest is not None and r.time < oldest - 60]
            if gone:
                c.execute(delete(own.candidate_predictions).where(s.seq.in_(gone)))
            return len(gone)


def _erased(c: Connection, requests: Sequence[bytes]) -> set[bytes]:
    """Those of the requests of which a row was erased: what is said of them is not kept."""
    p, found = t.predictions.c, set()
    for part in chunks(list(requests)):
        query = select(p.request).where(p.request.in_(part), p.erased.is_not(None))
        found |= {bytes(request) for request in c.execute(query).scalars()}
    return found


def _note(c: Connection, kind: str, detail: dict[str, Any], now: float) -> None:
    c.execute(insert(t.events), [codec.event_row(Event(kind, detail, now))])


def _candidate(r: Row[Any]) -> Candidate:
    return Candidate(
        r.tag, tuple(r.ramp), r.min_labels, r.id, CandidateState(r.state), r.step,
        r.first_prediction, r.reason, r.evidence, r.time, r.by,
    )  # fmt: skip
