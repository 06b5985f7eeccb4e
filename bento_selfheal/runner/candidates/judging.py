"""Moves candidates along their ramp: by the evidence of the pipeline, and by what they failed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from bentoml.exceptions import NotFound

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.candidates.candidate import Candidate, CandidateState, failures
from bento_selfheal.core.ids import KEY_BYTES, key_at
from bento_selfheal.deployment.deploy import put_in_service
from bento_selfheal.errors import PackageError, brief
from bento_selfheal.healing.candidates.trial import CandidateTrial, Move
from bento_selfheal.healing.candidates.trials import Said, WaitingRow
from bento_selfheal.healing.pipeline import Pipeline
from bento_selfheal.store import SqlStore
from bento_selfheal.store.codec import unpack

LOOK_SECONDS = 0.5
DEPLOYED = "it serves already: it was deployed by hand"

Moves = list[tuple[Candidate, Move, str]]


class CandidateJudge:
    """Judges candidates while this runner leads.

    Args:
        store: Where candidates, and what they said, are.
        settings: The service's settings.

    Attributes:
        figures: Of each candidate on its ramp, for the runner's status.
    """

    def __init__(self, store: SqlStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._next = 0.0
        self.figures: list[dict[str, Any]] = []

    def judge(self, pipeline: Pipeline) -> tuple[bool, Moves]:
        """Compare candidates on what was labelled since; whether there was anything, and the moves
        to make once the evidence is in the store."""
        if time.monotonic() < self._next:
            return False, []
        self._next = time.monotonic() + LOOK_SECONDS
        living = self._store.candidates(living=True)
        parts = pipeline.parts
        running = [c for c in living if c.state is CandidateState.RUNNING]
        before = set(parts.candidates.trials)
        parts.candidates.follow(running)
        changed = before != set(parts.candidates.trials)
        moves: Moves = [(c, Move.PROMOTE, c.reason) for c in living if c not in running]
        self.figures = []
        for candidate in running:
            if candidate.tag == parts.package.tag:
                moves.append((candidate, Move.WITHDRAW, DEPLOYED))
                continue
            said = self._said(candidate, parts.candidates.waiting[candidate.id])
            changed |= bool(parts.candidates.compare(candidate, said, parts.controls.thresholds))
            trial = parts.candidates.trials[candidate.id]
            counts = self._store.candidate_counts(candidate.id)
            self.figures.append(_figures(candidate, trial, counts))
            objection = parts.one_sided.objection
            move, why = trial.judge(candidate, self._settings.gate_alpha, counts, objection)
            held = {
                Move.STEP: parts.controls.paused,
                Move.PROMOTE: parts.controls.paused or parts.controls.observing,
            }
            if move is not Move.STAY and not held.get(move):
                moves.append((candidate, move, why))
        return changed, moves

    def carry_out(self, pipeline: Pipeline, moves: Moves) -> None:
        """Make moves, unless an operator was quicker; a candidate that has won is deployed."""
        for candidate, move, why in moves:
            trial = pipeline.parts.candidates.trials.get(candidate.id)
            evidence: dict[str, Any] = trial.status() if trial else {}
            if move is Move.WITHDRAW:
                self._move(candidate, CandidateState.WITHDRAWN, candidate.step, why, evidence)
            elif move is Move.STEP:
                self._move(candidate, CandidateState.RUNNING, candidate.step + 1, why, evidence)
            elif candidate.state is CandidateState.RUNNING:
                self._move(candidate, CandidateState.WON, candidate.step, why, evidence)
            else:
                self._deploy(candidate)

    def _deploy(self, candidate: Candidate) -> None:
        last, evidence = len(candidate.ramp) - 1, candidate.evidence
        try:
            put_in_service(self._settings, self._store, candidate.tag)
        except (PackageError, NotFound) as error:  # healing must not stop for it
            why = f"it cannot serve: {brief(error)}"
            self._move(candidate, CandidateState.WITHDRAWN, candidate.step, why, evidence)
        else:
            self._move(candidate, CandidateState.PROMOTED, last, candidate.reason, evidence)

    def _move(
        self, c: Candidate, state: CandidateState, step: int, why: str, evidence: dict[str, Any]
    ) -> None:
        self._store.move_candidate(c, state, step, why, by=c.by if state is CandidateState.PROMOTED
                                   else "runner", evidence=evidence)  # fmt: skip

    def _said(self, candidate: Candidate, waiting: Sequence[WaitingRow]) -> Said:
        """What the candidate said of rows that wait, as far as it has."""
        wanted: dict[int, list[WaitingRow]] = {}
        for row in waiting:
            wanted.setdefault(row.asked, []).append(row)
        said: Said = {}
        for r in self._store.candidate_answers(candidate.id, list(wanted)):
            flat = unpack(r.probabilities)
            table = flat if len(flat) == r.rows else flat.reshape(r.rows, -1)
            for row in wanted[r.seq]:
                place = _place(row, bytes(r.own_keys or b""), r.rows)
                if place is not None:
                    said[row.asked, row.key] = table[place].tolist()
        return said


def _figures(c: Candidate, trial: CandidateTrial, counts: Mapping[str, Any]) -> dict[str, Any]:
    """A candidate as the runner's status has it."""
    return {"tag": c.tag, "share": c.share, "failures": failures(counts), **trial.status()}


def _place(row: WaitingRow, own_keys: bytes, rows: int) -> int | None:
    """The number of a labelled row in its request."""
    key = bytes.fromhex(row.key)
    if not row.has_own_key:
        return int.from_bytes(key[KEY_BYTES:], "big", signed=True)
    return next((i for i in range(rows) if key_at(own_keys, i) == key), None)
