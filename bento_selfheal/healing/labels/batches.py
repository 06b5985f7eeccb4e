"""The batch of labels that is open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import FeedbackRecord
from bento_selfheal.healing.labels.join import JoinedRow, Joiner
from bento_selfheal.healing.labels.maturity import Maturity
from bento_selfheal.healing.labels.set_aside import SetAside, Sorted
from bento_selfheal.healing.labels.sources import Sources
from bento_selfheal.healing.labels.unlearnable import NewClasses, TakenBack
from bento_selfheal.healing.review.selection import Selection
from bento_selfheal.packaging.package import Package

SLOW_BATCHES = 2
SLOW_SECONDS = 1.0
"""By the log's own times: under thousands of requests a second two batches are no time, and heals
on ten labels each would take longer than the labels take to come."""
FEW_LABELS = 10


class LabelBatches:
    """Labels on their way to a batch: they wait for their prediction, until it is old enough where
    one class is never reported, then for each other.

    Args:
        package: The packaged model.
        settings: How many labels make a batch, and how many may wait.

    Attributes:
        joiner: Labels that wait for their prediction.
        maturity: Labels whose rows are not old enough yet.
        sources: Who may teach.
        set_aside: Rows that the model cannot answer.
        new_classes: Labels of classes that the model lacks.
        taken_back: Rows whose label was taken back.
        selection: Rows whose labels people are asked for.
        open: Rows of the batch that is not full yet.
    """

    def __init__(self, package: Package, settings: Settings) -> None:
        self._width = len(package.info.features)
        self._batch_size = settings.tuning.batch_size
        self.joiner = Joiner(settings.tuning.pending_labels)
        self.maturity = Maturity(settings.unreported, package.info.classes)
        self.sources = Sources(settings.source_alpha, settings.source_quota)
        self.set_aside = SetAside(package)
        self.new_classes = NewClasses(settings.tuning.new_class_share)
        self.taken_back = TakenBack()
        self.selection = Selection(settings)
        self.open: list[JoinedRow] = []
        self._opened_at = 0
        self._opened_time = 0.0

    def add(self, row: JoinedRow, predicted: int, now: float) -> None:
        """Take a row.

        Args:
            row: The row.
            predicted: Rows answered so far.
            now: Time of the newest entry of the logs, in seconds since the epoch.
        """
        if not self.open:
            self._opened_at, self._opened_time = predicted, now
        self.open.append(row)

    def is_due(self, predicted: int, now: float, enough: int) -> bool:
        """Whether a batch is full; or long in coming, and then a few labels are enough.

        Args:
            predicted: Rows answered so far.
            now: Time of the newest entry of the logs, in seconds since the epoch.
            enough: Labels that make a batch.
        """
        size, n = self._batch_size, len(self.open)
        slow = predicted - self._opened_at >= SLOW_BATCHES * size
        slow = slow and abs(now - self._opened_time) >= SLOW_SECONDS  # clocks are set back
        return n >= enough or (slow and n >= min(FEW_LABELS, size))

    def set_unanswerable_aside(self) -> Sorted:
        """Take rows on which the model raises out of the open batch."""
        told_apart = self.set_aside.sort(self.open)
        self.open = told_apart.usable
        return told_apart

    def take(self) -> list[JoinedRow]:
        """The rows of the open batch; an empty one opens."""
        rows, self.open = self.open, []
        return rows

    def correct(self, row: JoinedRow) -> None:
        """Replace a label of the open batch; who corrects it answers for the row from now on."""
        for i, waiting in enumerate(self.open):
            if waiting.key == row.key:
                self.open[i] = replace(
                    waiting, label=row.label, source=row.source, unreported=row.unreported
                )

    def drop(self, key: bytes) -> bool:
        """Take a row out of the open batch; False when it is not there."""
        before = len(self.open)
        self.open = [row for row in self.open if row.key != key]
        return len(self.open) < before

    def forget(self, source: str) -> int:
        """Drop what a source labelled of the open batch, and of new classes; how many of these."""
        self.open = [row for row in self.open if row.source != source]
        return self.new_classes.forget(source)

    def state(self) -> dict[str, Any]:
        """As JSON values and tensors, for the checkpoint."""
        rows, new = [row.features for row in self.open], self.new_classes.state()
        selection = self.selection.state()
        return {
            "new_class_rows": new.pop("features"),
            "new_classes": new,
            "taken_back": self.taken_back.state(),
            "asked_keys": selection.pop("keys"),
            "asked_rows": selection.pop("rows"),
            "selection": selection,
            "rows": torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, self._width),
            "open": [_without_features(row) for row in self.open],
            "opened_at": self._opened_at,
            "opened_time": self._opened_time,
            "waiting": [_label_facts(label) for label in self.joiner.pending()],
            "unmatched": self.joiner.unmatched,
            "maturity": self.maturity.state(),
            "sources": self.sources.state(),
            "set_aside": self.set_aside.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.open = [
            JoinedRow(**{**row, "key": bytes.fromhex(row["key"])}, features=features)
            for row, features in zip(state["open"], state["rows"].numpy(), strict=True)
        ]
        self._opened_at, self._opened_time = state["opened_at"], state["opened_time"]
        self.joiner.restore([_label(facts) for facts in state["waiting"]], state["unmatched"])
        self.maturity.restore(state.get("maturity", {}))
        self.sources.restore(state["sources"])
        self.set_aside.restore(state["set_aside"])
        if "new_classes" in state:  # older releases knew none
            new = {**state["new_classes"], "features": state["new_class_rows"]}
            self.new_classes.restore(new)
            self.taken_back.restore(state["taken_back"])
        if "selection" in state:  # nor any review queue
            asked = {"keys": state["asked_keys"], "rows": state["asked_rows"]}
            self.selection.restore({**state["selection"], **asked})


def _without_features(row: JoinedRow) -> dict[str, Any]:
    facts = {k: v for k, v in row.__dict__.items() if k != "features"}
    return {**facts, "key": row.key.hex()}


def _label_facts(label: FeedbackRecord) -> dict[str, Any]:
    return {**label.__dict__, "request": label.request.hex(), "key": label.key and label.key.hex()}


def _label(facts: dict[str, Any]) -> FeedbackRecord:
    key = facts.get("key")  # older releases knew none
    own = {"request": bytes.fromhex(facts["request"]), "key": key and bytes.fromhex(key)}
    return FeedbackRecord(**{**facts, **own})
