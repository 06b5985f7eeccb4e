"""The snapshots known: saved, measured on later labels, loaded again, forgotten over a bound."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol

from torch import Tensor

from bento_selfheal.core.records import NewSnapshot, Phase, Promotion, Snapshot, best_healed
from bento_selfheal.errors import SnapshotError
from bento_selfheal.healing.journal import Journal
from bento_selfheal.healing.labels.labelled_batch import DecidedAt, LabelledBatch
from bento_selfheal.healing.labels.labelled_rows import LabelledRows
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.scoring.probabilities import probabilities_or_half
from bento_selfheal.scoring.scores import NOTHING, Scores
from bento_selfheal.telemetry import names
from bento_selfheal.telemetry.spans import Telemetry

log = logging.getLogger(__name__)

Seen = tuple[int | None, int | None]
"""Places of the logs, of predictions without labels and of labels, up to which a snapshot's weights
may depend on them; None where it is not known."""


class SnapshotStore(Protocol):
    """Where snapshots go; `Registry` in a service, memory in a backtest."""

    def save(self, new: NewSnapshot, state: Mapping[str, Tensor]) -> Snapshot:
        """Keep an adapter's weights.

        Raises:
            SnapshotError: They are not finite.
        """

    def repeat(self, new: NewSnapshot, snapshot: Snapshot) -> Snapshot:
        """Keep an adapter once more, under another version.

        Raises:
            SnapshotError: It is not there any more, or damaged.
        """

    def load(self, tag: str, sha256: str) -> SelfHealingModel:
        """The packaged model with a kept adapter.

        Raises:
            SnapshotError: It does not verify.
        """


class SnapshotHistory:
    """Every snapshot that may serve, by version.

    Args:
        store: Where adapters are kept.
        limit: Snapshots kept.
        telemetry: Where spans go.
        journal: Where events are noted.
        figures: What they are compared by, `telling_figures` of the classes.

    Attributes:
        figures: The same.
        snapshots: By version, in the order in which they became known.
        measured: What each did on labels that came after it was trained.
        changed: New, or measured anew, since `collect`.
        next_version: Version of the next one saved.
        trained: Place of the first label that each was not trained on.
    """

    def __init__(
        self,
        store: SnapshotStore,
        limit: int,
        telemetry: Telemetry,
        journal: Journal,
        figures: tuple[str, ...],
    ) -> None:
        self.figures = figures
        self._store = store
        self._limit = limit
        self._telemetry = telemetry
        self._journal = journal
        self.snapshots: dict[int, Snapshot] = {}
        self.measured: dict[int, Scores] = {}
        self.changed: dict[int, Snapshot] = {}
        self.next_version = 2
        self.trained: dict[int, int] = {}

    def save(
        self,
        phase: Phase,
        model: SelfHealingModel,
        *,
        heal: int,
        batch: int,
        reason: str,
        facts: Mapping[str, Any],
        seen: Seen,
        trained: int | None = None,
        same: Snapshot | None = None,
    ) -> Snapshot:
        """Keep a model's adapter under the next version.

        ``trained`` is the place of the first label that it was not trained on, where it is known;
        ``same`` a snapshot of the same adapter, which is quicker to copy than a model.

        Raises:
            SnapshotError: Its weights are not finite.
        """
        version = self.next_version
        with self._telemetry.span(
            names.SNAPSHOT, {names.VERSION: version, names.PHASE: phase.value}
        ):
            new = NewSnapshot(version, phase, heal, batch, reason, facts)
            repeated = None if same is None else self._repeat(new, same)
            kept = repeated or self._store.save(new, model.adapter_state())
            snapshot = replace(kept, seen_predictions=seen[0], seen_labels=seen[1])
        self.next_version += 1
        self.snapshots[version] = self.changed[version] = snapshot
        if trained is not None:
            self.trained[version] = trained
        return snapshot

    def _repeat(self, new: NewSnapshot, same: Snapshot) -> Snapshot | None:
        """A copy of a snapshot; None where it is damaged and has to be made of the model anew."""
        try:
            return self._store.repeat(new, same)
        except SnapshotError as error:
            log.warning("%s cannot be copied, and is written anew: %s", same.tag, error)
            return None

    @staticmethod
    def seen_by(snapshot: Snapshot | None) -> Seen:
        """How far into the logs a snapshot has seen; the packaged model has seen nothing."""
        if snapshot is None or snapshot.phase is Phase.CLEAN:
            return 0, 0
        return snapshot.seen_predictions, snapshot.seen_labels

    def unseen_from(self, snapshot: Snapshot) -> int | None:
        """Place of the first label that a snapshot was not trained on; None where it is unknown."""
        return 0 if snapshot.phase is Phase.CLEAN else self.trained.get(snapshot.version)

    def promoted(self, promotion: Promotion) -> Snapshot:
        """The snapshot of a promotion, known from now on."""
        fresh = Snapshot(
            promotion.version, promotion.tag, Phase.CLEAN, promotion.sha256,
            0, 0, promotion.reason, promotion.time,
        )  # fmt: skip
        return self.snapshots.setdefault(promotion.version, fresh)

    def take_up(self, kept: list[Snapshot], *, next_version: int) -> None:
        """Know what the store has kept, where no checkpoint tells of it, and nothing else."""
        self.snapshots = {s.version: s for s in kept}
        self.measured, self.trained, self.changed = {}, {}, {}
        self.next_version = next_version

    def load(self, kept: Snapshot | Promotion) -> SelfHealingModel:
        """The packaged model with a snapshot's adapter.

        Raises:
            SnapshotError: It does not verify.
        """
        return self._store.load(kept.tag, kept.sha256)

    def load_known(self, snapshot: Snapshot) -> SelfHealingModel | None:
        """Its model; None where it does not verify: an event says so, and it is known no more."""
        try:
            return self.load(snapshot)
        except SnapshotError as error:
            self._forget(snapshot.version)
            self._journal.note("refused", {"version": snapshot.version, "reason": str(error)})
            return None

    def measure(self, version: int, scores: Scores) -> None:
        """Add what a snapshot did on later labels; one that is known no more is left out."""
        if version not in self.snapshots:
            return
        total = self.measured[version] = self.measured.get(version, NOTHING) + scores
        self.snapshots[version] = self.changed[version] = replace(
            self.snapshots[version], accuracy=total.accuracy, f1=total.f1, rows=round(total.rows)
        )

    def measure_served(self, batch: LabelledBatch, thresholds: DecidedAt) -> None:
        """Add what each version answered of a labelled batch."""
        for version in sorted({int(v) for v in batch.versions} & self.snapshots.keys()):
            own = batch.versions == version
            stands_for = batch.reviewed.weights
            weights = None if stands_for is None else stands_for[own]
            decided_at = thresholds(batch.versions[own])
            scores = Scores.of(batch.served[own], batch.labels[own], decided_at, weights)
            self.measure(version, scores)

    def collect(self) -> dict[int, Snapshot]:
        """Hand over what changed, once."""
        done, self.changed = self.changed, {}
        return done

    def best(self, *, other_than: int | None = None) -> Snapshot | None:
        """The post-heal snapshot that is best on later labels; else the clean one."""
        others = [s for s in self.snapshots.values() if s.version != other_than]
        clean = next((s for s in others if s.phase is Phase.CLEAN), None)
        return best_healed(others, self.figures[0]) or clean

    def before(self, batch: int, *, other_than: int) -> list[Snapshot]:
        """Post-heal snapshots of before a labelled batch; the clean one where there is none."""
        old = [s for s in self.snapshots.values() if s.batch < batch and s.version != other_than]
        healed = [s for s in old if s.phase is Phase.POST]
        return healed or [s for s in old if s.phase is Phase.CLEAN]

    def compare(self, snapshots: list[Snapshot], rows: LabelledRows) -> dict[Snapshot, Scores]:
        """What each does on the rows; one that does not verify is left out."""
        return {
            snapshot: Scores.of(probabilities_or_half(model, rows.features), rows.labels)
            for snapshot in snapshots
            if (model := self.load_known(snapshot)) is not None
        }

    def surplus(self, needed: set[int]) -> list[Snapshot]:
        """Snapshots over the limit, forgotten here; needed ones, clean, best and newest stay."""
        best = self.best()
        keep = {
            s.version
            for s in self.snapshots.values()
            if s.version in needed or s.phase is Phase.CLEAN or s is best
        }
        newest = sorted(self.snapshots.keys() - keep, reverse=True)
        room = max(self._limit - len(keep), 0)
        return [self._forget(version) for version in newest[room:]]

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {
            "snapshots": [asdict(s) for s in self.snapshots.values()],
            "measured": {str(v): asdict(s) for v, s in self.measured.items()},
            "trained": {str(v): place for v, place in self.trained.items()},
            "next_version": self.next_version,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.snapshots = {
            row["version"]: Snapshot(**{**row, "phase": Phase(row["phase"])})
            for row in state["snapshots"]
        }
        self.measured = {int(v): Scores(**s) for v, s in state["measured"].items()}
        self.trained = {int(v): place for v, place in state["trained"].items()}
        self.next_version = state["next_version"]

    def _forget(self, version: int) -> Snapshot:
        self.measured.pop(version, None)
        self.trained.pop(version, None)
        self.changed.pop(version, None)
        return self.snapshots.pop(version)
