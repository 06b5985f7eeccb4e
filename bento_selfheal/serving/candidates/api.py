"""The operators' endpoints for candidates."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from bento_selfheal.core.candidates.candidate import (
    DEFAULT_LABELS,
    DEFAULT_RAMP,
    CandidateState,
)
from bento_selfheal.serving.http.auth import ASKED_BY
from bento_selfheal.serving.openapi.running import Running, shows
from bento_selfheal.wire.messages import NO_NUL

BEGUN = {
    "id": 3, "tag": "fraud:wwzzpchhi2ajuax4", "state": "running", "step": 0, "share": 0.0,
    "ramp": [0, 1, 10, 50, 100], "min_labels": 200, "first_prediction": 40_120, "reason": "",
    "evidence": {}, "time": 1795442638.0, "by": "operator",
}  # fmt: skip
EXAMPLE = {
    **BEGUN, "step": 2, "share": 0.1, "reason": "no evidence of harm on 400 labels",
    "evidence": {"labels": 520, "labels_at_step": 120, "mean_gain": 0.021, "log_e": 1.4,
                 "log_e_worse": -1.9, "lift": {"mean": 0.03, "low": 0.004, "high": 0.056}},
    "counts": {"answered": 3120, "failed": 0, "dropped": 2, "seconds": 1.9, "served": 310,
               "tried": 1, "late": 0, "lost": 0, "waited": 1.2},
}  # fmt: skip
ENDED = {"candidate": 3, "tag": "fraud:wwzzpchhi2ajuax4", "state": "withdrawn"}
WON = {**ENDED, "state": "won"}

router = APIRouter(tags=["self-healing"])


class CandidateRequest(BaseModel):
    """The package that is to earn its place."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"tag": "fraud:latest"}},
    )

    tag: str = Field(min_length=1, max_length=200, pattern=NO_NUL)
    """Tag of a package in the model store of the service."""
    ramp: list[Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]] = Field(
        default=list(DEFAULT_RAMP), min_length=2, max_length=20
    )
    """Percent of the requests that it answers, step by step; 0 is shadow, and 100 its promotion."""
    min_labels: Annotated[int, Field(ge=1, le=1_000_000)] = DEFAULT_LABELS
    """Labelled rows that each step takes at least."""


class CandidateName(BaseModel):
    """A candidate on its ramp."""

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"example": {"tag": "fraud:wwzzpchhi2ajuax4"}},
    )

    tag: str = Field(min_length=1, max_length=200, pattern=NO_NUL)
    """Its exact tag, or its number."""


@router.get("/candidates", summary="Candidates", responses=shows([EXAMPLE]))
def candidates(running: Running) -> list[dict[str, Any]]:
    """Packages that earn their place, oldest first: step, share, labels, lift, counts."""
    return running.candidates()


@router.post("/candidates/begin", summary="Let a package earn its place", responses=shows(BEGUN))
def begin_candidate(running: Running, request: CandidateRequest) -> dict[str, Any]:
    """Begin a candidate: it answers copies of live rows, then a growing share of requests, and is
    promoted where labels prove it better than the healed champion."""
    ramp = tuple(request.ramp)
    return running.begin_candidate(request.tag, ramp, request.min_labels, ASKED_BY.get())


@router.post("/candidates/withdraw", summary="Withdraw a candidate", responses=shows(ENDED))
def withdraw(running: Running, request: CandidateName) -> dict[str, Any]:
    """Withdraw a candidate: within a second it answers nothing any more."""
    return running.end_candidate(request.tag, CandidateState.WITHDRAWN, ASKED_BY.get())


@router.post("/candidates/promote", summary="Promote a candidate", responses=shows(WON))
def promote(running: Running, request: CandidateName) -> dict[str, Any]:
    """Have the healing runner put a candidate into service, whatever the evidence."""
    return running.end_candidate(request.tag, CandidateState.WON, ASKED_BY.get())
