"""`POST /thresholds`: operational thresholds, changed while the service runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from bento_selfheal.config.thresholds import ThresholdChanges
from bento_selfheal.serving.http.auth import ASKED_BY
from bento_selfheal.serving.openapi.running import Running
from bento_selfheal.wire.messages import CommandAnswer

router = APIRouter(tags=["self-healing"])


@router.post("/thresholds", summary="Change thresholds")
def thresholds(running: Running, changes: Annotated[ThresholdChanges, Body()]) -> CommandAnswer:
    """Change some of the thresholds and costs; what is left out stays. The runner writes them to
    `threshold_config.json` and puts them in force, and the audit keeps who changed what."""
    return running.set_thresholds(changes, ASKED_BY.get())
