"""Frozen rows of the logs, and the states; `transitions` says which may follow which."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.ids import key_at

WAITS = -1
"""The row of a label whose key has no prediction in the log yet."""


class PointKind(StrEnum):
    """What the threshold follows."""

    DEFAULT = "default"  # 0.5, as packaged
    COSTS = "costs"  # the costs of a miss and of a false alarm, on recalibrated probabilities
    CAPACITY = "capacity"  # so many flags in 1,000 rows
    UNVERIFIED = "unverified"  # the calibrated share of flags; no label has come to say so


@dataclass(frozen=True)
class OperatingPoint:
    """The decision threshold of two classes, on the probability as the model gives it."""

    threshold: float = 0.5
    kind: PointKind = PointKind.DEFAULT

    def as_dict(self) -> dict[str, Any]:
        """As the status reports it."""
        return {
            "threshold": self.threshold,
            "kind": self.kind.value,
            "verified": self.kind is not PointKind.UNVERIFIED,
        }


Label = int | str
"""A class, as JSON carries it."""


class State(StrEnum):
    """Where the service stands (article.md, section 4)."""

    HEALTHY = "HEALTHY"  # no signal
    DRIFTING = "DRIFTING"  # z or conflicts over their threshold
    HEALING = "HEALING"  # a heal is training
    RETRAIN_NEEDED = "RETRAIN_NEEDED"  # healing stays far from what is asked
    ROLLED_BACK = "ROLLED_BACK"  # a promotion was undone and no signal batch has come since


class Phase(StrEnum):
    """What a snapshot holds."""

    CLEAN = "clean"  # the weights as packaged
    PRE = "pre-heal"  # what served when the heal began
    POST = "post-heal"  # what the heal trained


class PromotionKind(StrEnum):
    """Why the serving snapshot changed."""

    INITIAL = "initial"  # a packaged model took over
    CANARY = "canary"  # the gate let a challenger through, which answers a share first
    PROMOTE = "promote"  # the gate let a challenger through
    ROLLBACK = "rollback"  # health or an operator undid it
    REFRESH = "refresh"  # the same weights, told what the newest rows are like


class FeedbackOutcome(StrEnum):
    """What became of one item of feedback."""

    ACCEPTED = "accepted"  # new, durable now
    KNOWN = "known"  # the same label was there already
    UNKNOWN = "unknown"  # nobody issued this id
    CONFLICT = "conflict"  # another label is kept for this row


@dataclass(frozen=True)
class RawInput:
    """An input as it came."""

    media_type: str
    """What the body is, such as ``image/png``."""
    body: bytes


@dataclass(frozen=True)
class LoggedInput:
    """An input in the log that has a label; its body is read by its place."""

    seq: int
    """Place in the log of inputs."""
    request: bytes
    row: int
    time: float
    """When it came, in seconds since the epoch."""
    media_type: str
    label: int
    """Index of the class."""
    source: str | None
    new_class: str | None = None  # JSON of a class that the packaged model does not have


@dataclass(frozen=True)
class PredictionRecord:
    """One request of the prediction log."""

    request: bytes
    """Random key of the request, 12 bytes; a row is (request, index)."""
    features: NDArray[np.float32]
    """``(n, features)``"""
    probabilities: NDArray[np.float32]
    """``(n,)``, as answered"""
    version: int
    """Snapshot version that answered."""
    time: float
    """Seconds since the epoch."""
    seq: int = 0
    """Place in the log; given by the store."""
    inputs: tuple[RawInput, ...] = ()
    """The input of each row, where they are to be kept; empty when it is read from the log."""
    keys: bytes = b""
    """The hash of each row's own key, `KEY_HASH_BYTES` a row; empty where rows have none."""
    review: bytes = b""
    """Which rows are looked at, a packed `scoring.review.Review`; empty where all are."""
    retried: bool = False  # the same request was answered a moment before, so its rows have counted
    erased: bytes = b""
    """Which rows were erased, a bit a row (`core.log.erased`); empty where none was."""

    @property
    def input_bytes(self) -> int:
        """Bytes of all its inputs."""
        return sum(len(one.body) for one in self.inputs) if self.inputs else 0

    def key_of(self, row: int) -> bytes | None:
        """The hash of a row's own key; None where it has none."""
        return key_at(self.keys, row) or None


@dataclass(frozen=True)
class FeedbackRecord:
    """One label in the feedback log."""

    request: bytes
    """Key of the request; one of its own where the row has features or waits for its prediction."""
    row: int
    """Number of the row in the request; `WAITS` until a prediction of its key is logged."""
    label: int
    """Index of the class; `core.labels` has those that are none."""
    time: float
    source: str | None = None
    features: NDArray[np.float32] | None = None
    """``(features,)`` where the client keeps no ids, else None."""
    corrects: bool = False  # replaces the label kept before
    trace: str | None = None  # W3C traceparent of the request that brought it
    after: int = 0
    """Newest place of the prediction log when this was written: the common order of both logs."""
    seq: int = 0
    key: bytes | None = None
    """Hash of the row's own key, where it has one: a label counts once for each."""
    new_class: str | None = None  # JSON of a class that the packaged model does not have


@dataclass(frozen=True)
class NewSnapshot:
    """What a store of snapshots keeps beside an adapter's weights; as in `Snapshot`."""

    version: int
    phase: Phase
    heal: int
    batch: int
    reason: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More that is kept with it, JSON values."""

    def kept(self, tag: str, sha256: str) -> Snapshot:
        """The snapshot, kept now under this tag."""
        return Snapshot(
            self.version, tag, self.phase, sha256, self.heal, self.batch, self.reason, time.time()
        )


@dataclass(frozen=True)
class Snapshot:
    """An adapter in the BentoML model store."""

    version: int
    tag: str
    phase: Phase
    sha256: str
    """Hash of the adapter file."""
    heal: int
    """Number of the heal it belongs to; 0 for the clean weights."""
    batch: int
    """Labelled batch at which it was taken."""
    reason: str
    time: float
    accuracy: float | None = None
    """On labels that came after it was trained; None until some have come."""
    f1: float | None = None
    rows: int = 0
    """How many such labels."""
    seen_predictions: int | None = None
    """Place in the log up to which its weights may depend on predictions, labels aside."""
    seen_labels: int | None = None
    """The same of labels; like the other None where an earlier release made it."""


def best_healed(snapshots: Iterable[Snapshot], figure: str) -> Snapshot | None:
    """The post-heal snapshot that is best on later labels; the newer one of two equals.

    Args:
        snapshots: The snapshots.
        figure: What they are compared by, ``f1`` or ``accuracy``.
    """
    measured = [s for s in snapshots if s.phase is Phase.POST and s.f1 is not None]
    return max(measured, key=lambda s: (getattr(s, figure), s.version), default=None)


@dataclass(frozen=True)
class Promotion:
    """One change of the serving snapshot."""

    kind: PromotionKind
    version: int
    tag: str
    sha256: str
    reason: str
    time: float
    by: str = "runner"
    """``runner``, or the name of the token that it was asked with; ``operator`` without tokens."""
    evidence: dict[str, Any] = field(default_factory=dict)
    """The gate's figures, the range of label ids they rest on, and the thresholds in force."""
    trace: str | None = None
    seq: int = 0
    operating_point: OperatingPoint | None = None
    """The decision threshold that came into force with it; None in logs of older releases."""
    share: float = 1.0
    """Share of the requests that it answers; of a canary below 1, and what serves answers the
    others."""


@dataclass(frozen=True)
class Event:
    """Something that happened, for people: heals, rollbacks, refusals, commands."""

    kind: str
    detail: dict[str, Any]
    time: float
    batch: int = 0
    seq: int = 0


@dataclass(frozen=True)
class Measurement:
    """The figures of one moment, for charts and exports."""

    time: float
    """Seconds since the epoch."""
    batch: int
    """Batches of rows read so far."""
    labelled_batch: int
    """Labelled batches so far."""
    scored: bool
    """Whether a labelled batch ended here; otherwise the figures are of the signals alone."""
    figures: dict[str, Any]
    """By name; ``None`` where there is none yet."""
    seq: int = 0


@dataclass(frozen=True)
class Command:
    """What an operator asked the runner to do."""

    kind: str
    """``heal``, ``pause``, ``observe``, ``resume``, ``forget``, ``release`` or ``thresholds``."""
    time: float
    seq: int = 0
    argument: str | None = None
    """The source to forget or release; the changed thresholds as JSON."""
    by: str = "operator"
    """Name of the token that it was asked with; ``operator`` where there are no tokens."""
