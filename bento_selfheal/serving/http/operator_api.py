"""What operators read and ask for, over HTTP: mounted beside `/predict` and `/feedback`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from bento_selfheal.core.records import (
    Event,
    Phase,
    Promotion,
    PromotionKind,
    Snapshot,
    best_healed,
)
from bento_selfheal.dashboard import Page
from bento_selfheal.errors import CommandError, SnapshotError, StoreError
from bento_selfheal.packaging.adapters import Registry
from bento_selfheal.serving.http.auth import ASKED_BY
from bento_selfheal.serving.http.replies import invalid_request, unavailable
from bento_selfheal.store import SqlStore
from bento_selfheal.telemetry import names as names
from bento_selfheal.telemetry.spans import Telemetry
from bento_selfheal.wire.messages import NO_NUL, CommandAnswer, KeptSnapshot

MOST = 2**63 - 1
"""What a database takes for an integer."""


class RollbackRequest(BaseModel):
    """Which snapshot is to serve."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"version": 5}})

    version: Annotated[int, Field(ge=1, le=MOST)] | None = None
    """A snapshot's version; without one the post-heal snapshot with the highest F1."""


class ForgetRequest(BaseModel):
    """Which source of feedback to forget."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    source: str = Field(min_length=1, max_length=200, pattern=NO_NUL)
    """As its feedback names it."""


class Operations:
    """The operators' side of one worker.

    Args:
        store: The shared store.
        registry: The snapshots.
        worker: What this worker says of itself.
        telemetry: Where spans go.
    """

    def __init__(
        self,
        store: SqlStore,
        registry: Registry,
        worker: Callable[[], dict[str, Any]],
        telemetry: Telemetry,
    ) -> None:
        self._telemetry = telemetry
        self._store = store
        self._registry = registry
        self._worker = worker

    def status(self) -> dict[str, Any]:
        """The runner's status, how long ago it was shown, and this worker."""
        status = self._store.status()
        return {
            **status,
            "runner_alive": self._store.leader() is not None,
            "worker": self._worker(),
        }

    def snapshots(self) -> list[dict[str, Any]]:
        """Kept snapshots with what is serving and what a rollback would restore."""
        snapshots = self._store.snapshots()
        serving = self._serving_version()
        best = self._best(snapshots, serving)
        return [
            asdict(KeptSnapshot(**vars(s), serving=s.version == serving, best=s == best))
            for s in snapshots
        ]

    def rollback(self, version: int | None, by: str = "operator") -> Promotion:
        """Promote an older snapshot, verified first; the workers follow, runner or not.

        Args:
            version: Of the snapshot; None for the best one.
            by: Who asks, for the promotion log and the event.

        Raises:
            CommandError: There is no such snapshot, or it serves already.
            SnapshotError: It does not verify.
        """
        snapshots = self._store.snapshots()
        serving = self._serving_version()
        if version is None:
            target = self._best(snapshots, serving)
        else:
            target = next((s for s in snapshots if s.version == version), None)
        if target is None:
            kept = [s.version for s in snapshots]
            asked = "nothing to go back to" if version is None else f"no snapshot {version}"
            raise CommandError(f"version: {asked}; kept are {kept}")
        if target.version == serving:
            raise CommandError(f"version: snapshot {target.version} serves already")
        reason = f"an operator rolled back from {serving} to {target.version}"
        detail = {"version": target.version, "from": serving, "reason": reason, "by": by}
        now = time.time()
        with self._telemetry.span(
            names.ROLLBACK, {names.VERSION: target.version, names.REASON: reason}
        ):
            self._registry.load(target.tag, target.sha256)
            promotion = Promotion(
                PromotionKind.ROLLBACK, target.version, target.tag, target.sha256, reason, now,
                by=by, trace=self._telemetry.traceparent(),
            )  # fmt: skip
            return self._store.promote(promotion, Event("rollback", detail, now))

    def command(self, kind: str, by: str = "operator") -> CommandAnswer:
        """Ask the runner for something, in somebody's name."""
        return CommandAnswer(command=kind, seq=self._store.add_command(kind, by=by))

    def forget(self, source: str, by: str = "operator") -> CommandAnswer:
        """Ask the runner to learn from a source no more."""
        return CommandAnswer(command="forget", seq=self._store.add_command("forget", source, by=by))

    def promotions(self, page: LogPage) -> list[dict[str, Any]]:
        """One page of the promotion log, oldest first."""
        return [asdict(p) for p in self._store.promotions(page.after, page.limit, page.before)]

    def events(self, page: LogPage) -> list[dict[str, Any]]:
        """One page of the events, oldest first."""
        return [asdict(e) for e in self._store.events(page.after, page.limit, page.before)]

    def history(self, since: float, after: int, limit: int) -> list[dict[str, Any]]:
        """Figures over time, oldest first; every n-th where there are more than the limit."""
        return [asdict(m) for m in self._store.measurements(since, after, limit=limit)]

    def _serving_version(self) -> int | None:
        newest = self._store.newest_promotion()
        return newest.version if newest else None

    @staticmethod
    def _best(snapshots: list[Snapshot], serving: int | None) -> Snapshot | None:
        others = [s for s in snapshots if s.version != serving]
        clean = next((s for s in reversed(others) if s.phase is Phase.CLEAN), None)
        return best_healed(others) or clean


STATUS_EXAMPLE = {
    "state": "DRIFTING", "mode": "heal", "paused": False,
    "model": "selfheal-demo:wwzzpchhi2ajuax4",
    "serving": {"version": 7, "phase": "post-heal",
                "tag": "selfheal-demo-adapter:1a565b-000007-post-heal"},
    "signals": {"z": 1.41, "feature": "V14", "conflicts": 41, "drifting": True,
                "error": "", "fidi_threshold": 1.0, "conflict_min": 5},
    "labels": {"joined": 1500, "corrected": 0, "waiting": 0, "unmatched": 0,
               "delay_seconds": 3600.0},
    "unread": {"requests": 0, "labels": 0},
    "lift": {"mean": 0.31, "low": 0.23, "high": 0.39},
    "heals": 9, "promotions": 2, "rollbacks": 0, "runner_alive": True,
    "worker": {"pid": 71, "serving_version": 7, "serving_since": 1795442638.0,
               "queue_rows": 0, "dropped_rows": 0},
}  # fmt: skip
SNAPSHOT_EXAMPLE = {
    "version": 7, "tag": "selfheal-demo-adapter:1a565b-000007-post-heal", "phase": "post-heal",
    "sha256": "9f2c…", "heal": 3, "batch": 8, "reason": "z=0.54 on V14, conflicts=8",
    "time": 1795442638.0, "accuracy": 0.86, "f1": 0.24, "rows": 400, "serving": True, "best": False,
}  # fmt: skip
PROMOTION_EXAMPLE = {
    "kind": "promote", "version": 7, "tag": "selfheal-demo-adapter:1a565b-000007-post-heal",
    "sha256": "9f2c…", "reason": "loss lower by 0.0954 on 100 new labels",
    "time": 1795442638.0, "by": "runner", "trace": None, "seq": 3,
    "evidence": {"log_e": 4.17, "log_e_needed": 3.0, "rows": 100, "mean_gain": 0.0954,
                 "standard_error": 0.0191, "first_label": 801, "last_label": 900,
                 "thresholds": {"rollback_f1_drop": 0.08, "rollback_acc_drop": 0.1}},
}  # fmt: skip
EVENT_EXAMPLE = {
    "kind": "heal", "time": 1795442638.0, "batch": 8, "seq": 12,
    "detail": {"heal": 3, "version": 7, "reason": "z=0.54 on V14, conflicts=8", "rows": 800,
               "losses": {"real": 0.33, "total": 0.33}},
}  # fmt: skip

MEASUREMENT_EXAMPLE = {
    "time": 1795442638.0, "batch": 8, "labelled_batch": 7, "scored": True, "seq": 15,
    "figures": {"state": "DRIFTING", "version": 7, "z": 1.41, "conflicts": 41, "accuracy": 0.84,
                "shadow_accuracy": 0.45, "challenger_accuracy": 0.85, "lift": 0.39},
}  # fmt: skip

Since = Annotated[float, Query(ge=0, description="Seconds since the epoch.")]
After = Annotated[int, Query(ge=0, le=MOST, description="Only entries after this place.")]
Limit = Annotated[int, Query(ge=1, le=10_000)]


class LogPage(BaseModel):
    """Which part of a log to read. Without `after` it is the newest part."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    after: Annotated[int, Field(ge=0, le=MOST)] | None = None
    """Only entries after this `seq`, the oldest of them: to follow the log."""
    before: Annotated[int, Field(ge=0, le=MOST)] | None = None
    """Only entries before this `seq`: to page back."""
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Most entries to return."""


Paged = Annotated[LogPage, Query()]


def _shows(example: Any) -> dict[int | str, dict[str, Any]]:
    """A good answer, for the OpenAPI page."""
    return {200: {"content": {"application/json": {"example": example}}}}


def operations_app(operations: Callable[[], Operations]) -> FastAPI:
    """The operators' endpoints; ``operations`` gives the running worker's side."""
    app = FastAPI(title="bento_selfheal", docs_url=None, redoc_url=None, openapi_url=None)
    _add_reads(app, operations)
    _add_commands(app, operations)
    app.mount("/selfheal", Page(), name="page")

    @app.exception_handler(StoreError)
    def _store_away(_: Request, error: StoreError) -> JSONResponse:
        return unavailable(error)

    @app.exception_handler(RequestValidationError)
    def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return invalid_request(error.errors())

    return app


def _add_reads(app: FastAPI, operations: Callable[[], Operations]) -> None:
    @app.get(
        "/status",
        tags=["self-healing"],
        summary="Where the service stands",
        responses=_shows(STATUS_EXAMPLE),
    )
    def status() -> dict[str, Any]:
        """State, signals, labels, champion against shadow, lift with its interval, the trial
        on its way to the gate, counts, thresholds in force, and this worker."""
        return operations().status()

    @app.get(
        "/snapshots",
        tags=["self-healing"],
        summary="Snapshots in the model store",
        responses=_shows([SNAPSHOT_EXAMPLE]),
    )
    def snapshots() -> list[dict[str, Any]]:
        """Every kept snapshot: version, tag, phase, figures on labels that came after its
        training, and whether it serves or is the best to roll back to."""
        return operations().snapshots()

    @app.get(
        "/promotions",
        tags=["self-healing"],
        summary="What served when, and why",
        responses=_shows([PROMOTION_EXAMPLE]),
    )
    def promotions(page: Paged) -> list[dict[str, Any]]:
        """The newest promotions, oldest first, with their evidence, label ids and thresholds.
        With `after` the first ones after that `seq`; with `before` those before it."""
        return operations().promotions(page)

    @app.get(
        "/events", tags=["self-healing"], summary="What happened", responses=_shows([EVENT_EXAMPLE])
    )
    def events(page: Paged) -> list[dict[str, Any]]:
        """The newest heals, promotions, rollbacks, refusals and commands, oldest first.
        With `after` the first ones after that `seq`; with `before` those before it."""
        return operations().events(page)

    @app.get(
        "/history",
        tags=["self-healing"],
        summary="Figures over time",
        responses=_shows([MEASUREMENT_EXAMPLE]),
    )
    def history(since: Since = 0.0, after: After = 0, limit: Limit = 1000) -> list[dict[str, Any]]:
        """Signals and, where a labelled batch ended, what was served against the shadow; oldest
        first, and every n-th where there are more than the limit."""
        return operations().history(since, after, limit)


def _add_commands(app: FastAPI, operations: Callable[[], Operations]) -> None:
    @app.post(
        "/rollback",
        tags=["self-healing"],
        summary="Serve an older snapshot",
        responses=_shows({**PROMOTION_EXAMPLE, "kind": "rollback", "by": "operator"}),
    )
    def rollback(request: RollbackRequest | None = None) -> dict[str, Any]:
        """Roll back to the named snapshot, or without a version to the best one."""
        try:
            return asdict(
                operations().rollback(request.version if request else None, ASKED_BY.get())
            )
        except (CommandError, SnapshotError) as error:
            raise HTTPException(409, str(error)) from error

    @app.post("/pause", tags=["self-healing"], summary="Stop healing for now")
    def pause() -> CommandAnswer:
        """Signals and figures go on; heals, promotions and rollbacks stop."""
        return operations().command("pause", ASKED_BY.get())

    @app.post("/observe", tags=["self-healing"], summary="Heal, but promote nothing")
    def observe() -> CommandAnswer:
        """Everything goes on but promotions and rollbacks; what they would have been is noted."""
        return operations().command("observe", ASKED_BY.get())

    @app.post("/resume", tags=["self-healing"], summary="Heal again")
    def resume() -> CommandAnswer:
        """Take healing up again after a pause, and promotions after observing."""
        return operations().command("resume", ASKED_BY.get())

    @app.post("/forget", tags=["self-healing"], summary="Forget a source of feedback")
    def forget(request: ForgetRequest) -> CommandAnswer:
        """Quarantine a source and remove what it taught from the labelled buffer."""
        return operations().forget(request.source, ASKED_BY.get())

    @app.post("/heal", tags=["self-healing"], summary="Heal now")
    def heal() -> CommandAnswer:
        """Heal once on the labels that are there, whatever the signals say."""
        return operations().command("heal", ASKED_BY.get())
