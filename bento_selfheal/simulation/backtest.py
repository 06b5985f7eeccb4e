"""Runs the pipeline over a stream offline: the runner's code, without a server or a store.

The current champion answers the rows in batches; labels come late. Every figure comes from
answers given before their label was known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.decision import THRESHOLD, decide_classes
from bento_selfheal.core.ids import KEY_HASH_BYTES
from bento_selfheal.core.labels import name_of_new
from bento_selfheal.core.log.erased import is_erased
from bento_selfheal.core.records import (
    Event,
    FeedbackRecord,
    Label,
    NewSnapshot,
    Phase,
    PredictionRecord,
    Promotion,
    PromotionKind,
)
from bento_selfheal.healing.champion.memory import MemorySnapshots
from bento_selfheal.healing.labels.join import row_key
from bento_selfheal.healing.pipeline import Pipeline
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.probabilities import answers_to, predict_probabilities
from bento_selfheal.scoring.review import Reviewer
from bento_selfheal.scoring.scores import majority_accuracy
from bento_selfheal.simulation.driver import Actions, BatchReport
from bento_selfheal.simulation.figures import Figures, alarm_shares, figures_of
from bento_selfheal.simulation.memory import WaitingRows
from bento_selfheal.simulation.streams import LabelsOwed, Stream
from bento_selfheal.store import SqlStore
from bento_selfheal.telemetry.spans import Telemetry

SEEDS, MOST_BATCHES = 256, 2**32
"""Of the keys of requests, which make each seed draw other rows to look at."""


class Backtest:
    """One packaged model, one stream, one set of settings.

    Args:
        package: The packaged model.
        settings: How to watch and heal.
        thresholds: The rollback thresholds.
    """

    def __init__(
        self, package: Package, settings: Settings, thresholds: Thresholds | None = None
    ) -> None:
        self.package = package
        self._snapshots = MemorySnapshots(package)
        self.pipeline = Pipeline(
            package, settings, self._snapshots,
            thresholds=thresholds or Thresholds(), telemetry=Telemetry(),
        )  # fmt: skip
        self.parts = self.pipeline.parts
        clean = self._snapshots.save(
            NewSnapshot(1, Phase.CLEAN, heal=0, batch=0, reason="packaged"),
            package.model.adapter_state(),
        )
        self.pipeline.adopt(
            Promotion(PromotionKind.INITIAL, 1, clean.tag, clean.sha256, "packaged", 0.0, seq=1)
        )
        self.events: list[Event] = []
        self._seq, self._seconds = 0, 1.0
        self._waiting = WaitingRows(self.parts.batches.maturity)
        self._seed = settings.seed
        self._reviewer = Reviewer(
            settings.review, settings.review_share, settings.review_explored,
            package.baseline(package.reference_rows),
        )  # fmt: skip
        self._answers: dict[str, list[NDArray[np.float32]]] = {
            name: [] for name in ("frozen", "champion", "challenger", "labels", "thresholds")
        }

    def run(
        self,
        stream: Stream,
        *,
        labelled: NDArray[np.bool_] | None = None,
        sources: Sequence[str] | None = None,
        told: NDArray[np.int64] | None = None,
        delays: NDArray[np.int64] | None = None,
    ) -> Iterator[BatchReport]:
        """Answer, watch, give late labels, heal; one report a batch.

        Args:
            stream: Rows with their true labels.
            labelled: Which rows a label comes for, ``(n,)``; all that are asked for when not given.
            sources: Who gives each label, ``(n,)``.
            told: The labels that are given, where they are not the true ones, ``(n,)``.
            delays: How many rows are predicted between each row and its label, ``(n,)``; all as the
                stream says when not given.
        """
        given, actions = stream.labels if told is None else told, Actions()
        asks_for = self.parts.batches.selection.asks_for
        owed = LabelsOwed(stream, delays)
        asked_at: dict[int, PredictionRecord] = {}
        self._seconds = stream.seconds
        for number, (rows, labels) in enumerate(stream, start=1):
            hidden, shadow = self.package.embed_checked(rows)  # every model has this backbone
            asked = self._answer(number, rows, hidden, shadow)
            threshold = self.parts.threshold_of(asked.version)
            self._keep(hidden, labels, shadow, asked)
            for ready, labels_given in self._waiting.due(asked.time):
                self.pipeline.mature(ready, labels_given, asked.time)
            self.pipeline.consume(asked)
            self._waiting.ask(asked)
            asked_at[number] = asked
            for place in owed.due(number * stream.batch):
                due, row = place // stream.batch + 1, place % stream.batch
                if asks_for(asked_at[due], row) and (labelled is None or labelled[place]):
                    source = None if sources is None else sources[place]
                    new = stream.new_classes.get(label := int(given[place]))
                    self._label(asked_at[due], row, label, number, source, new)
                if owed.is_last_of(due):
                    del asked_at[due]
            self._forget_surplus()
            known = labels < len(self.package.info.classes)
            yield BatchReport(
                number=number,
                state=self.parts.shown.now.value,
                z=self.parts.drift.signals.reading.z,
                conflicts=self.parts.drift.signals.reading.conflicts,
                version=asked.version,
                labels=labels[known],
                frozen=shadow[known],
                served=asked.probabilities[known],
                threshold=threshold,
                action=self._done(actions),
            )

    def _done(self, actions: Actions) -> str:
        counts = self.parts.scoreboard.counts
        return actions.since(
            counts.heals, counts.promotions, counts.rollbacks, self.parts.lineage.serving_version
        )

    def replay(self, store: SqlStore, predictions_from: int, feedback_from: int) -> None:
        """Run a store's own log: its rows are answered anew, its labels come when they came.

        Only labelled rows count in `figures`.
        """
        asked: dict[bytes, tuple[PredictionRecord, dict[str, NDArray[np.float32]]]] = {}
        counted: dict[bytes, int] = {}
        while entries := store.read_log(predictions_from, feedback_from):
            for entry in entries:
                if isinstance(entry, PredictionRecord):
                    predictions_from = entry.seq
                    for ready, labels in self._waiting.due(entry.time):
                        for given in self.parts.batches.maturity.labels(ready, labels):
                            self._count(given, asked[ready.request][1], counted)
                        self.pipeline.mature(ready, labels, entry.time)
                    asked[entry.request] = self._answer_again(entry)
                    self.pipeline.consume(asked[entry.request][0])
                    self._waiting.ask(asked[entry.request][0])
                else:
                    feedback_from = entry.seq
                    self._waiting.label(entry)
                    answered = asked.get(entry.request)
                    if answered is not None and is_erased(answered[0], entry.row):
                        continue
                    if not self.parts.batches.maturity.keeps_back(entry, answered and answered[0]):
                        self._count(entry, answered[1] if answered else None, counted)
                    self.pipeline.consume(entry, answered[0] if answered else None)
                self._forget_surplus()

    def _answer_again(
        self, entry: PredictionRecord
    ) -> tuple[PredictionRecord, dict[str, NDArray[np.float32]]]:
        named = entry.keys[:KEY_HASH_BYTES] or entry.request
        champion, version = self.parts.lineage.answering(named)
        said = {
            "frozen": self.package.baseline(entry.features),
            "champion": predict_probabilities(champion, entry.features),
            "challenger": predict_probabilities(self.parts.line.challenger.answers, entry.features),
            "thresholds": self._in_force(version, len(entry.features)),
        }
        return replace(entry, probabilities=said["champion"], version=version), said

    def _count(
        self,
        given: FeedbackRecord,
        said: dict[str, NDArray[np.float32]] | None,
        counted: dict[bytes, int],
    ) -> None:
        """Keep what was said of a labelled row; a correction replaces its label."""
        if said is None:
            return
        key = given.key or row_key(given.request, given.row)
        label = np.asarray([given.label], dtype=np.float32)
        if key in counted:
            self._answers["labels"][counted[key]] = label
            return
        counted[key] = len(self._answers["labels"])
        for name, answers in said.items():
            self._answers[name].append(answers[given.row : given.row + 1])
        self._answers["labels"].append(label)

    def correct(self, name: str) -> NDArray[np.float64]:
        """Which answers were right, 1 or 0, in order; frozen at 0.5, others as they were served."""
        right = decide_classes(self.answers(name), self._thresholds(name)) == self.answers("labels")
        return np.asarray(right, dtype=np.float64)

    def figures(self) -> dict[str, Figures]:
        """`figures_of` frozen, champion and challenger, each answer given before its label was
        known."""
        labels, costs = self.answers("labels"), self.parts.controls.thresholds
        shares = alarm_shares(self.package, costs)
        return {
            name: figures_of(self.answers(name), labels, self._thresholds(name), shares, costs)
            for name in ("frozen", "champion", "challenger")
        }

    @property
    def majority(self) -> float:
        """Accuracy of always answering the commonest class."""
        return majority_accuracy(np.bincount(self.answers("labels").astype(np.int64)).tolist())

    def _thresholds(self, name: str) -> float | NDArray[np.float32]:
        return THRESHOLD if name == "frozen" else self.answers("thresholds")

    def _in_force(self, version: int, rows: int) -> NDArray[np.float32]:
        return np.full(rows, self.parts.threshold_of(version), dtype=np.float32)

    @property
    def labelled(self) -> int:
        """Rows that count in the figures."""
        return int(self._counts().sum())

    @property
    def new_classes(self) -> dict[str, int]:
        """Labels of each class that the model was not trained on, by its name."""
        return dict(self.parts.batches.new_classes.status()["classes"])

    def _counts(self) -> NDArray[np.bool_]:
        """Which rows have a class of the model as their label, ``(n,)``: others count nowhere."""
        labels = np.concatenate(self._answers["labels"] or [np.zeros(0, np.float32)])
        return np.asarray((labels >= 0) & (labels < len(self.package.info.classes)))

    def answers(self, name: str) -> NDArray[np.float32]:
        """All answers of frozen, champion or challenger so far, the labels or the thresholds, in
        order; without the rows that have no class of the model as their label."""
        return np.concatenate(self._answers[name])[self._counts()]

    def _keep(
        self, hidden: Tensor, labels: NDArray[np.int64], shadow: NDArray[np.float32],
        asked: PredictionRecord,
    ) -> None:  # fmt: skip
        challenger = answers_to(self.parts.line.challenger.answers, asked.features, hidden, shadow)
        decided_at = self._in_force(asked.version, len(labels))
        answers = shadow, asked.probabilities, challenger, labels, decided_at
        for kept, answer in zip(self._answers.values(), answers, strict=True):
            kept.append(np.asarray(answer, dtype=np.float32))

    def _answer(
        self, number: int, rows: NDArray[np.float32], hidden: Tensor, shadow: NDArray[np.float32]
    ) -> PredictionRecord:
        key = (self._seed % SEEDS * MOST_BATCHES + number).to_bytes(12, "big")
        champion, version = self.parts.lineage.answering(key)
        probabilities = answers_to(champion, rows, hidden, shadow)
        review = self._reviewer.review(probabilities, self.parts.threshold_of(version))
        return PredictionRecord(
            key, rows, probabilities, version, number * self._seconds, seq=number,
            review=b"" if review is None else review.pack(),
        )  # fmt: skip

    def _label(
        self,
        asked: PredictionRecord,
        row: int,
        label: int,
        now: int,
        source: str | None,
        new: Label | None,
    ) -> None:
        self._seq += 1
        given = FeedbackRecord(
            asked.request, row, label, now * self._seconds, source, after=now, seq=self._seq,
            new_class=None if new is None else name_of_new(new),
        )  # fmt: skip
        self._waiting.label(given)
        self.pipeline.consume(given, asked)

    def _forget_surplus(self) -> None:
        self.events += self.pipeline.collect().events
        for snapshot in self.pipeline.surplus():
            self._snapshots.delete(snapshot.tag)
