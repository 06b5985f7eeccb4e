"""Sends a stream with late labels to a service and measures what healing gained.

Every figure comes from answers given before their label was sent.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.client.client import Client
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.decision import THRESHOLD
from bento_selfheal.core.records import Label
from bento_selfheal.errors import SelfHealError
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.scores import Interval, Scores, batch_interval, majority_accuracy
from bento_selfheal.simulation.figures import Figures, alarm_shares, figures_of
from bento_selfheal.simulation.streams import Stream
from bento_selfheal.wire.messages import FeedbackItem

SETTLE_SECONDS = 180.0
"""A runner stands back behind whatever else the machine has to do."""
POLL_SECONDS = 0.01


@dataclass(frozen=True, eq=False)
class BatchReport:
    """The answers to one batch, and the state of the service after it.

    Attributes:
        labels: The true classes, indices, ``(n,)``; rows of a class that the model does not have
            are left out here and below.
        frozen: What the frozen model says, ``(n,)`` or ``(n, classes)``.
        served: What was answered, in the same shape.
        threshold: The threshold that was in force for it.
    """

    number: int
    state: str
    z: float
    conflicts: int
    version: int
    labels: NDArray[np.int64]
    frozen: NDArray[np.float32]
    served: NDArray[np.float32]
    threshold: float
    action: str

    @property
    def champion(self) -> Scores:
        """What was decided."""
        return Scores.of(self.served, self.labels, self.threshold)

    @property
    def shadow(self) -> Scores:
        """What the frozen model decides."""
        return Scores.of(self.frozen, self.labels, THRESHOLD)

    @property
    def lift(self) -> float:
        """Accuracy gained over the frozen model."""
        return self.champion.accuracy - self.shadow.accuracy


@dataclass(frozen=True)
class Summary:
    """The figures of a whole stream.

    Attributes:
        reports: One for each batch.
        status: The status of the service at the end.
        package: The packaged model.
    """

    reports: list[BatchReport]
    status: dict[str, Any]
    package: Package

    @property
    def champion(self) -> Scores:
        """What was served."""
        return sum((r.champion for r in self.reports), Scores(0, 0, 0, 0))

    @property
    def shadow(self) -> Scores:
        """The frozen model on the same rows."""
        return sum((r.shadow for r in self.reports), Scores(0, 0, 0, 0))

    @property
    def lift(self) -> Interval:
        """Mean accuracy gained per batch, with its interval."""
        return batch_interval([r.lift for r in self.reports if len(r.labels)])

    def figures(self) -> dict[str, Figures]:
        """`figures_of` what the frozen model says and what was served."""
        costs = Thresholds.model_validate(self.status["thresholds"])
        shares = alarm_shares(self.package, costs)
        labels = self._joined("labels")
        in_force = np.concatenate(
            [np.full(len(r.labels), r.threshold, dtype=np.float32) for r in self.reports]
        )
        return {
            "frozen": figures_of(self._joined("frozen"), labels, THRESHOLD, shares, costs),
            "champion": figures_of(self._joined("served"), labels, in_force, shares, costs),
        }

    @property
    def majority(self) -> float:
        """Accuracy of always answering the commonest class."""
        return majority_accuracy(np.bincount(self._joined("labels")).tolist())

    def tail(self, batches: int) -> Summary:
        """The figures of the last batches."""
        return Summary(self.reports[-batches:], self.status, self.package)

    def _joined(self, name: str) -> NDArray[Any]:
        return np.concatenate([getattr(report, name) for report in self.reports])


class Actions:
    """Tells heals, promotions and rollbacks by how far their numbers have risen."""

    def __init__(self) -> None:
        self._heals = self._promotions = self._rollbacks = 0

    def since(self, heals: int, promotions: int, rollbacks: int, serving: int) -> str:
        """What was done since this was last asked; empty where nothing was.

        Args:
            heals: Heals so far.
            promotions: Promotions so far.
            rollbacks: Rollbacks so far.
            serving: Version of the snapshot that serves.

        >>> done = Actions()
        >>> done.since(1, 0, 0, 1), done.since(4, 2, 0, 7), done.since(4, 2, 1, 5)
        ('heal 1', 'heals 2 to 4, promote 7', 'rollback to 5')
        """
        first, words = self._heals + 1, list[str]()
        if heals >= first:
            words.append(f"heal {heals}" if heals == first else f"heals {first} to {heals}")
        if rollbacks > self._rollbacks:
            words.append(f"rollback to {serving}")
        elif promotions > self._promotions:
            words.append(f"promote {serving}")
        self._heals, self._promotions, self._rollbacks = heals, promotions, rollbacks
        return ", ".join(words)


class Driver:
    """A client that asks for predictions at once of a service that is new, and sends labels late:
    those that are asked for.

    Args:
        url: Address of the service.
        package: The packaged model; scores the frozen shadow on the same rows.
        workers: Predict workers, all of which must follow a promotion before the next batch.
        never: Class that nobody reports: its labels do not come.
    """

    def __init__(
        self, url: str, package: Package, workers: int, never: Label | None = None
    ) -> None:
        self._client = Client(url)
        self._package = package
        self._workers = workers
        self._never = never
        self._owed: deque[tuple[str, Label, bool]] = deque()
        self._sent = 0
        self._version = 0
        self._actions = Actions()

    def run(self, stream: Stream) -> Iterator[BatchReport]:
        """Send the stream batch by batch; one report each."""
        with self._client:
            for number, (rows, labels) in enumerate(stream, start=1):
                yield self._batch(number, rows, labels, stream)

    def status(self) -> dict[str, Any]:
        """The status of the service."""
        return self._client.status()

    def _batch(
        self, number: int, rows: NDArray[np.float32], labels: NDArray[np.int64], stream: Stream
    ) -> BatchReport:
        before = self._package.baseline(rows)
        columns = self._package.info.columns
        sent = Schema(columns).json_rows(rows) if columns else rows
        answer = self._client.predict(sent)
        names = {**dict(enumerate(self._package.info.classes)), **stream.new_classes}
        given = [names[label] for label in labels.tolist()]
        asked_for = answer.review or [True] * len(given)
        self._owed.extend(zip(answer.prediction_ids, given, asked_for, strict=True))
        self._give_labels(stream.delay)
        known = labels < len(self._package.info.classes)
        status = self._settle(number * len(rows))
        serving = status["serving"] or {"version": 0}
        return BatchReport(
            number=number,
            state=status["state"],
            z=status["signals"]["z"],
            conflicts=status["signals"]["conflicts"],
            version=answer.model_version,
            labels=labels[known],
            frozen=before[known],
            served=np.asarray(answer.probabilities, dtype=np.float32)[known],
            threshold=answer.threshold,
            action=self._actions.since(
                status["heals"], status["promotions"], status["rollbacks"], serving["version"]
            ),
        )

    def _give_labels(self, delay: int) -> None:
        due = [self._owed.popleft() for _ in range(max(len(self._owed) - delay, 0))]
        items = [
            FeedbackItem(prediction_id=i, label=label)
            for i, label, asked in due
            if asked and label != self._never
        ]
        if items:
            self._sent += self._client.feedback(items).accepted

    def _settle(self, predicted: int) -> dict[str, Any]:
        """Wait until the runner has read everything and the workers serve what it promoted."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            status = self.status()
            seen = status.get("predicted_rows", 0) >= predicted
            told = status.get("cursors", {}).get("feedback", -1) >= self._sent
            if seen and told and status["state"] != "HEALING":
                self._follow(status["serving"]["version"], deadline)
                return status
            time.sleep(POLL_SECONDS)
        raise SelfHealError(f"the runner did not catch up in {SETTLE_SECONDS:.0f} s; see the log")

    def _follow(self, version: int, deadline: float) -> None:
        """Wait until every worker serves the version; a new connection may meet another one."""
        if version == self._version:
            return
        seen: set[int] = set()
        while len(seen) < self._workers and time.monotonic() < deadline:
            with Client(self._client.url) as once:
                worker = once.status()["worker"]
            if worker["serving_version"] == version:
                seen.add(worker["pid"])
            else:
                time.sleep(POLL_SECONDS)
        self._version = version
