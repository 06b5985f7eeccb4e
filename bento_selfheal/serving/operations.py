"""What operators read and ask for, whatever way it comes in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bento_selfheal.config.thresholds import ThresholdChanges
from bento_selfheal.core.candidates.candidate import Candidate, CandidateState
from bento_selfheal.core.going_back import previous_snapshot
from bento_selfheal.core.log.serving_state import ServingState
from bento_selfheal.core.records import Event, Label, Promotion, PromotionKind, Snapshot
from bento_selfheal.core.text import shown
from bento_selfheal.deployment.candidates import begin_candidate
from bento_selfheal.errors import CommandError, OtherClasses
from bento_selfheal.serving.erasure.eraser import Eraser
from bento_selfheal.serving.reporting.backlog import Backlog, lag
from bento_selfheal.serving.review_queue import ReviewQueue
from bento_selfheal.store import SqlStore
from bento_selfheal.telemetry import names
from bento_selfheal.telemetry.spans import Telemetry
from bento_selfheal.wire.class_list import ClassList
from bento_selfheal.wire.messages import ClassesAnswer, CommandAnswer, KeptSnapshot

MOST = 2**63 - 1
"""The largest integer that a database holds."""


class LogPage(BaseModel):
    """Which part of a log to read. Without `after` it is the newest part."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    after: Annotated[int, Field(ge=0, le=MOST)] | None = None
    """Only entries after this `seq`, the oldest of them: to follow the log."""
    before: Annotated[int, Field(ge=0, le=MOST)] | None = None
    """Only entries before this `seq`: to page back."""
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Most entries to return."""


class Operations:
    """What operators read and ask of one worker.

    Args:
        store: The shared store.
        verify: Loads a snapshot of the package that serves, by its tag and hash.
        worker: Describes this worker.
        telemetry: Records spans.
        queue: Finds rows for people to look at.
        eraser: Erases rows.
        classes: The model's.
    """

    def __init__(
        self,
        store: SqlStore,
        verify: Callable[[str, str], object],
        worker: Callable[[], dict[str, Any]],
        telemetry: Telemetry,
        queue: ReviewQueue,
        eraser: Eraser,
        classes: Sequence[Label],
    ) -> None:
        self.eraser = eraser
        self._classes = ClassList(classes)
        self._backlog = Backlog(store.ends)
        self._queue = queue
        self._telemetry = telemetry
        self._store = store
        self._verify = verify
        self._worker = worker

    def status(self) -> dict[str, Any]:
        """The runner's status, whether a runner holds the lease and keeps up, and this worker."""
        status, alive = self._store.status(), self._store.leader() is not None
        unread = self._backlog.look(status)
        behind = lag(status, unread, alive=alive)
        candidates = self._candidates(status, living=True)
        status.pop("trials", None)  # they are in the candidates
        return {
            **status,
            "candidates": candidates,
            **({"estimate": None} if behind and unread.labels else {}),  # labels may contradict it
            "unread": asdict(unread),
            "behind": behind,
            "runner_alive": alive,
            "worker": self._worker(),
        }

    def candidates(self) -> list[dict[str, Any]]:
        """Candidates, oldest first: where they stand, their evidence, and what was counted."""
        return self._candidates(self._store.status(), living=False)

    def _candidates(self, status: Mapping[str, Any], *, living: bool) -> list[dict[str, Any]]:
        trials = status.get("trials") or {}
        return [
            {**asdict(c), "share": c.share, "evidence": trials.get(str(c.id), c.evidence),
             "counts": self._store.candidate_counts(c.id)}
            for c in self._store.candidates(living=living)
        ]  # fmt: skip

    def begin_candidate(
        self, tag: str, ramp: tuple[float, ...], min_labels: int, by: str
    ) -> dict[str, Any]:
        """Let a package earn its place: it answers copies first.

        Raises:
            CommandError: There is no such package here, it does not fit, or it is one already.
        """
        begun = begin_candidate(self._store, tag, ramp, min_labels, by)
        return {**asdict(begun), "share": begun.share}

    def end_candidate(self, tag: str, state: CandidateState, by: str) -> dict[str, Any]:
        """Withdraw a candidate, or have the runner put it into service, whatever the evidence.

        Raises:
            CommandError: There is no such candidate on its ramp, or one that is to be withdrawn is
                being deployed already.
        """
        words = "withdrawn" if state is CandidateState.WITHDRAWN else "promoted"
        moved = False
        while not moved:  # the runner may move it to its next step between the two
            candidate = self._living(tag)
            if candidate.state is CandidateState.WON and state is CandidateState.WITHDRAWN:
                raise CommandError(
                    f"tag: {candidate.tag} has won and is being deployed; once it serves, "
                    "`bento-selfheal deploy TAG` puts another package in its place"
                )
            moved = candidate.state is state or self._store.move_candidate(
                candidate, state, candidate.step, f"{words} by {by}", by=by
            )
        return {"candidate": candidate.id, "tag": candidate.tag, "state": state.value}

    def _living(self, tag: str) -> Candidate:
        """The candidate on its ramp of this tag or number."""
        for candidate in self._store.candidates(living=True):
            if tag in (candidate.tag, str(candidate.id)):
                return candidate
        raise CommandError(
            f"tag: {shown(tag)} is no candidate on its ramp; see `bento-selfheal candidates`"
        )

    def unread_seconds(self) -> float:
        """For how long the oldest entry of the logs has waited for the runner."""
        return self._backlog.look(self._store.status()).seconds

    def classes(self, digest: str | None) -> ClassesAnswer:
        """The classes of the model.

        Args:
            digest: That of the classes which are meant; None for those of now.

        Raises:
            OtherClasses: The model has others.
        """
        if digest not in (None, self._classes.digest):
            raise OtherClasses(
                f"digest: {shown(digest)} is not that of this model's classes, "
                f"{self._classes.digest}: the answer came from another model; ask again"
            )
        return ClassesAnswer(digest=self._classes.digest, classes=list(self._classes.classes))

    def snapshots(self) -> list[dict[str, Any]]:
        """The kept snapshots, with which one serves and which one a rollback would restore."""
        snapshots = self._store.snapshots()
        shares = self._store.serving_state().shares
        serving = next(iter(shares), None)
        previous = previous_snapshot(self._store.turns(), snapshots)
        return [
            asdict(
                KeptSnapshot(
                    **vars(s), serving=s.version == serving, previous=s == previous,
                    share=shares.get(s.version, 0.0),
                )
            )
            for s in snapshots
        ]  # fmt: skip

    def review(self, limit: int) -> dict[str, Any]:
        """Rows whose labels are asked for, for one person to look at."""
        return self._queue.hand_out(limit)

    def rollback(self, version: int | None, by: str = "operator") -> Promotion:
        """Promote an older snapshot, verified first; workers follow even if no runner is alive.

        A canary ends by it: with its own version it answers all requests, else none.

        Args:
            version: Version of the snapshot; None for the one that served before this one.
            by: Recorded in the promotion log and the event.

        Raises:
            CommandError: There is no such snapshot or nothing older, or it is serving already.
            SnapshotError: It does not verify.
        """
        state = self._store.serving_state()
        target, canary = self._target(version, state), state.canary_version
        serving = state.promotion.version if state.promotion else 0
        kind, left = PromotionKind.ROLLBACK, canary or serving
        reason = f"an operator rolled back from {left} to {target.version}"
        if target.version == canary:
            kind, left = PromotionKind.PROMOTE, serving
            reason = f"an operator let snapshot {canary} answer all requests"
        detail = {"version": target.version, "from": left, "reason": reason, "by": by}
        now = time.time()
        with self._telemetry.span(
            names.ROLLBACK, {names.VERSION: target.version, names.REASON: reason}
        ):
            self._verify(target.tag, target.sha256)
            promotion = Promotion(
                kind, target.version, target.tag, target.sha256, reason, now,
                by=by, trace=self._telemetry.traceparent(),
            )  # fmt: skip
            batch = self._store.status().get("labelled_batches", 0)
            return self._store.promote(promotion, Event(kind.value, detail, now, batch))

    def command(self, kind: str, by: str = "operator") -> CommandAnswer:
        """Send a command to the healing runner, in somebody's name."""
        return CommandAnswer(command=kind, seq=self._store.add_command(kind, by=by))

    def forget(self, source: str, by: str = "operator") -> CommandAnswer:
        """Tell the healing runner to stop learning from a source."""
        return CommandAnswer(command="forget", seq=self._store.add_command("forget", source, by=by))

    def release(self, source: str, by: str = "operator") -> CommandAnswer:
        """Tell the healing runner to learn from a quarantined source again."""
        seq = self._store.add_command("release", source, by=by)
        return CommandAnswer(command="release", seq=seq)

    def set_thresholds(self, changes: ThresholdChanges, by: str = "operator") -> CommandAnswer:
        """Tell the healing runner to put other thresholds in force."""
        given = changes.given()
        seq = self._store.add_command("thresholds", json.dumps(given), by=by, audited=given)
        return CommandAnswer(command="thresholds", seq=seq)

    def promotions(self, page: LogPage) -> list[dict[str, Any]]:
        """One page of the promotion log, oldest first."""
        return [asdict(p) for p in self._store.promotions(page.after, page.limit, page.before)]

    def events(self, page: LogPage) -> list[dict[str, Any]]:
        """One page of the events, oldest first."""
        return [asdict(e) for e in self._store.events(page.after, page.limit, page.before)]

    def history(self, since: float, after: int, limit: int) -> list[dict[str, Any]]:
        """Figures over time, oldest first; every n-th if there are more than the limit."""
        return [asdict(m) for m in self._store.measurements(since, after, limit=limit)]

    def _target(self, version: int | None, state: ServingState) -> Snapshot:
        """The snapshot to roll back to."""
        serving = state.promotion.version if state.promotion else None
        snapshots = self._store.snapshots()
        if version is None:
            target = previous_snapshot(self._store.turns(), snapshots)
        else:
            target = next((s for s in snapshots if s.version == version), None)
        if target is None:
            kept = [s.version for s in snapshots]
            older = f"nothing older to go back to: snapshot {serving} serves"
            missing = older if version is None else f"no snapshot {version}"
            raise CommandError(f"version: {missing}; kept are {kept}")
        if target.version == serving and state.canary is None:
            raise CommandError(f"version: snapshot {target.version} is serving already")
        return target
