"""A candidate: a package on its way to serve, and what it said of a request."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.candidates.share import in_share

DEFAULT_RAMP = (0.0, 1.0, 10.0, 50.0, 100.0)
"""Percent of the requests that a candidate answers, step by step."""
DEFAULT_LABELS = 200


class CandidateState(StrEnum):
    """Where a candidate stands."""

    RUNNING = "running"  # on its ramp
    WON = "won"  # better by the gate's evidence, or by hand; the runner puts it into service
    PROMOTED = "promoted"  # it serves, or has served
    WITHDRAWN = "withdrawn"  # it answers nothing any more


@dataclass(frozen=True)
class Candidate:
    """A package that has to earn its place."""

    tag: str
    """Exact tag of the package."""
    ramp: tuple[float, ...] = DEFAULT_RAMP
    """Percent of the requests that it answers at each step; the last one, 100, is its promotion."""
    min_labels: int = DEFAULT_LABELS
    """Labelled rows that each step takes at least."""
    id: int = 0
    state: CandidateState = CandidateState.RUNNING
    step: int = 0
    first_prediction: int = 0
    """Place of the prediction log behind which it began."""
    reason: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    time: float = 0.0
    """When its state or step last changed, in seconds since the epoch."""
    by: str = "operator"

    @property
    def share(self) -> float:
        """Share of the requests that it answers now, in [0, 1)."""
        return self.ramp[self.step] / 100 if self.state is CandidateState.RUNNING else 0.0

    def takes(self, name: bytes) -> bool:
        """Whether it answers the request of this key: always the same ones, and more by each step.

        Args:
            name: Hash of the first row's own key, or the request's key.
        """
        return in_share(name, self.share, self.id)


@dataclass(frozen=True)
class CandidatePrediction:
    """What a candidate said of one request."""

    candidate: int
    request: bytes
    probabilities: NDArray[np.float32]
    """``(n,)`` or ``(n, classes)``"""
    answered: bool
    """Whether this was the answer."""
    time: float


def reporter(role: str) -> str:
    """The name under which this process counts what it sees of a candidate, by its role."""
    return f"{socket.gethostname()[:60]} {role} {os.getpid()}"


def failures(counts: Mapping[str, Any]) -> int:
    """Requests that a candidate failed, did not answer in time, or lost with its process, of what
    was counted of it."""
    return int(sum(counts.get(name, 0) for name in ("failed", "late", "lost")))


def check_ramp(ramp: tuple[float, ...]) -> str:
    """Why a ramp is none; empty where it is one.

    >>> check_ramp((0, 10, 100)), check_ramp((10, 5, 100))
    ('', 'ramp: 5 follows 10; give growing percentages up to 100')
    """
    if not ramp or ramp[-1] != 100 or ramp[0] < 0:
        return (
            f"ramp: {', '.join(f'{s:g}' for s in ramp)} must lie between 0 and 100, and end at 100"
        )
    for before, after in pairwise(ramp):
        if not before < after:
            return f"ramp: {after:g} follows {before:g}; give growing percentages up to 100"
    return "" if len(ramp) > 1 else "ramp: 100 alone is a deployment; begin with a smaller share"
