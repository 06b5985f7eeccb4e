"""The operators' HTTP API, mounted beside `/predict` and `/feedback`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

from bento_selfheal.dashboard.page import Page
from bento_selfheal.errors import (
    CommandError,
    OtherClasses,
    SelfHealError,
    SnapshotError,
    StoreError,
    UnknownRow,
)
from bento_selfheal.serving.candidates import api as candidates
from bento_selfheal.serving.http.auth import ASKED_BY
from bento_selfheal.serving.http.operating import thresholds
from bento_selfheal.serving.http.replies import conflict, invalid_request, unavailable, unknown
from bento_selfheal.serving.openapi import examples
from bento_selfheal.serving.openapi.running import Running, shows
from bento_selfheal.serving.operations import MOST, LogPage, Operations
from bento_selfheal.wire.class_list import CLASSES_PATH
from bento_selfheal.wire.messages import (
    LONGEST_KEY,
    NO_NUL,
    ClassesAnswer,
    CommandAnswer,
    ErasureAnswer,
    OwnKey,
)


class RollbackRequest(BaseModel):
    """The snapshot to roll back to."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"version": 5}},
    )

    version: Annotated[int, Field(ge=1, le=MOST)] | None = None
    """A snapshot's version; without one, the snapshot that served before this one."""


class SourceRequest(BaseModel):
    """The source of feedback to forget or to release."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    source: str = Field(min_length=1, max_length=200, pattern=NO_NUL)
    """The source as its feedback names it."""


class EraseRequest(BaseModel):
    """The row to erase, by its own key or by the id of its prediction."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"key": "tx-1"}},
    )

    key: OwnKey = Field(default=None, min_length=1, max_length=LONGEST_KEY, pattern=NO_NUL)
    """Your own key, as sent to `/predict`."""
    token: str | None = Field(default=None, min_length=1, max_length=20, pattern=NO_NUL)
    """Name of the token that the key was sent with; without one, that of this request."""
    prediction_id: str | None = Field(default=None, pattern=NO_NUL)
    """As returned by `/predict`."""

    @model_validator(mode="after")
    def _names_one_row(self) -> EraseRequest:
        if (self.key is None) == (self.prediction_id is None):
            raise PydanticCustomError("one_row", "give one of key and prediction_id")
        if self.token is not None and self.key is None:
            raise PydanticCustomError("one_row", "token: only a key belongs to one")
        return self


Since = Annotated[float, Query(ge=0, description="Seconds since the epoch.")]
After = Annotated[int, Query(ge=0, le=MOST, description="Only entries after this `seq`.")]
Limit = Annotated[int, Query(ge=1, le=10_000, description="Most entries to return.")]
Paged = Annotated[LogPage, Query()]
Digest = Annotated[str | None, Query(max_length=64, description="That of the classes meant.")]

router = APIRouter(tags=["self-healing"])


def operations_app(operations: Callable[[], Operations]) -> FastAPI:
    """The operators' endpoints and the page.

    Args:
        operations: Gives the operations of the running worker.
    """
    # Not by `include_router`, behind which FastAPI hides the routes' own paths from the metrics.
    app = FastAPI(
        title="bento_selfheal", docs_url=None, redoc_url=None, openapi_url=None,
        routes=[*router.routes, *candidates.router.routes, *thresholds.router.routes],
    )  # fmt: skip
    app.state.operations = operations
    app.mount("/selfheal", Page(), name="page")

    @app.exception_handler(StoreError)
    def _store_away(_: Request, error: StoreError) -> JSONResponse:
        return unavailable(error)

    @app.exception_handler(CommandError)
    @app.exception_handler(SnapshotError)
    def _not_now(_: Request, error: SelfHealError) -> JSONResponse:
        return conflict(error)

    @app.exception_handler(UnknownRow)
    @app.exception_handler(OtherClasses)
    def _not_there(_: Request, error: SelfHealError) -> JSONResponse:
        return unknown(error)

    @app.exception_handler(HTTPException)
    def _refused(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return invalid_request(error.errors())

    return app


@router.get("/status", summary="State of the service", responses=shows(examples.STATUS))
def status(running: Running) -> dict[str, Any]:
    """State, signals, labels, champion against baseline, lift with its interval, the challenger on
    trial, counts, thresholds in force, and this worker."""
    return running.status()


@router.get("/review", summary="Rows to look at", responses=shows(examples.REVIEW))
def review(running: Running, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> dict[str, Any]:
    """Rows whose labels are asked for and have not come yet, for ten minutes yours alone. Send the
    labels to `/feedback`. `left` is how many rows may follow today; null without a budget. There
    are none where the setting `review` is `all`."""
    return running.review(limit)


@router.get(
    CLASSES_PATH,
    summary="Classes of the model",
    responses={404: {"description": "The model has other classes."}},
)
def classes(running: Running, digest: Digest = None) -> ClassesAnswer:
    """The classes in the order of the probabilities, which an answer as a NumPy file refers to in
    `selfheal-classes-at` where they are too many for its headers. They do not change while the
    digest is the same, so ask for them once."""
    return running.classes(digest)


@router.get("/snapshots", summary="Kept snapshots", responses=shows([examples.SNAPSHOT]))
def snapshots(running: Running) -> list[dict[str, Any]]:
    """Every kept snapshot: version, tag, phase, figures on labels that came after its training,
    and whether it is serving or the previous one, which a rollback restores by default."""
    return running.snapshots()


@router.get("/promotions", summary="Promotion log", responses=shows([examples.PROMOTION]))
def promotions(running: Running, page: Paged) -> list[dict[str, Any]]:
    """The newest promotions, oldest first, with their evidence, label ids and thresholds.
    With `after` the first ones after that `seq`; with `before` those before it."""
    return running.promotions(page)


@router.get("/events", summary="Events", responses=shows([examples.EVENT]))
def events(running: Running, page: Paged) -> list[dict[str, Any]]:
    """The newest heals, promotions, rollbacks, refusals and commands, oldest first.
    With `after` the first ones after that `seq`; with `before` those before it."""
    return running.events(page)


@router.get("/history", summary="Figures over time", responses=shows([examples.MEASUREMENT]))
def history(
    running: Running, since: Since = 0.0, after: After = 0, limit: Limit = 1000
) -> list[dict[str, Any]]:
    """Signals and, where a labelled batch ended, the served model against the baseline; oldest
    first, and every n-th if there are more than the limit."""
    return running.history(since, after, limit)


@router.post(
    "/rollback",
    summary="Roll back to a snapshot",
    responses=shows({**examples.PROMOTION, "kind": "rollback", "by": "operator"}),
)
def rollback(running: Running, request: RollbackRequest | None = None) -> dict[str, Any]:
    """Roll back to the named snapshot, or without a version to the one that served before. A canary
    ends by it; named by its own version, it answers all requests from now on."""
    return asdict(running.rollback(request.version if request else None, ASKED_BY.get()))


@router.post("/pause", summary="Pause healing")
def pause(running: Running) -> CommandAnswer:
    """Stop the service from healing, promoting and rolling back by itself; signals and metrics
    continue, and an operator's own heal, rollback and forget still work."""
    return running.command("pause", ASKED_BY.get())


@router.post("/observe", summary="Heal without promoting")
def observe(running: Running) -> CommandAnswer:
    """Continue healing, but only record the promotions and rollbacks that would have happened."""
    return running.command("observe", ASKED_BY.get())


@router.post("/resume", summary="Resume healing")
def resume(running: Running) -> CommandAnswer:
    """Resume healing after a pause, and promotions after observing."""
    return running.command("resume", ASKED_BY.get())


@router.post("/forget", summary="Forget a source of feedback")
def forget(running: Running, request: SourceRequest) -> CommandAnswer:
    """Quarantine a source and remove its labels from the training buffer."""
    return running.forget(request.source, ASKED_BY.get())


@router.post("/release", summary="Release a source of feedback")
def release(running: Running, request: SourceRequest) -> CommandAnswer:
    """Lift the quarantine of a source: its later labels are learned from, and judged anew."""
    return running.release(request.source, ASKED_BY.get())


@router.post(
    "/erase",
    summary="Erase a row",
    responses={404: {"description": "Nothing is kept of such a row."}},
)
def erase(running: Running, request: EraseRequest) -> ErasureAnswer:
    """Erase a row, its labels and whatever was trained on it. When the answer comes it is gone
    from the store, and what serves has never seen it; the challengers are then built anew."""
    by = ASKED_BY.get()
    if request.key is not None:
        return running.eraser.by_key(request.key, request.token or by, by)
    return running.eraser.by_id(request.prediction_id or "", by)


@router.post("/heal", summary="Heal now")
def heal(running: Running) -> CommandAnswer:
    """Train one heal on the labels received so far, whatever the signals say."""
    return running.command("heal", ASKED_BY.get())
