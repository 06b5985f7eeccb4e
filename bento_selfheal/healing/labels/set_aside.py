"""Labelled rows that the model cannot answer: they are set aside, and the others are learned from.

A row that comes with its features was never answered, so nothing has shown yet that the model takes
it: a code that an `nn.Embedding` does not have raises, for instance.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.core.ids import KEY_BYTES
from bento_selfheal.errors import brief
from bento_selfheal.healing.labels.join import JoinedRow
from bento_selfheal.packaging.package import Package

MANY_ROWS = 20
"""Rows set aside without a whole batch between them, from which on it is more than a stray row."""


Answers = tuple[Tensor, NDArray[np.float32]]
"""Hidden vectors of rows, and what the frozen model says of them."""


@dataclass(frozen=True)
class Sorted:
    """Rows of a batch, told apart."""

    usable: list[JoinedRow]
    """Those that can be learned from"""
    details: list[dict[str, Any]]
    """Of an event for each of the others"""
    answers: Answers | None
    """Where all are usable"""


@dataclass
class SetAsideCounts:
    """What was set aside so far."""

    total: int = 0
    lately: int = 0
    """Since the newest batch that filled up without one."""
    filling: int = 0
    """Since the batch that is open began to fill."""
    newest: str = ""
    """The error of the newest one."""


class SetAside:
    """Finds the rows of a batch on which the model raises.

    Args:
        package: The packaged model. Adapters are alike for all rows, so what its clean adapter
            answers every adapter does.
    """

    def __init__(self, package: Package) -> None:
        self._package = package
        self.counts = SetAsideCounts()

    def sort(self, rows: list[JoinedRow]) -> Sorted:
        """Tell the rows that can be learned from, and the others.

        After `MANY_ROWS` in a row only the counts tell of the next ones.

        Raises:
            Exception: The model raises although each row can be answered, or it does not
                answer its own reference set either; then the rows are not at fault.
        """
        errors, answers = self._errors(rows)
        usable = [row for row, error in zip(rows, errors, strict=True) if not error]
        if rows and len(usable) == len(rows):
            self.counts.lately = self.counts.lately if self.counts.filling else 0
            self.counts.filling = 0
        details = []
        for row, error in zip(rows, errors, strict=True):
            if error:
                self._count(error)
                if self.counts.lately <= MANY_ROWS:
                    details.append(_detail(row, error))
        return Sorted(usable, details, answers)

    def _count(self, error: str) -> None:
        self.counts.total += 1
        self.counts.lately += 1
        self.counts.filling += 1
        self.counts.newest = error

    @property
    def trouble(self) -> str:
        """What is wrong, for people; empty while at most stray rows are set aside."""
        if self.counts.lately < MANY_ROWS:
            return ""
        return (
            f"the model could not answer the newest {self.counts.lately} of the labelled rows that "
            f"were set aside: {self.counts.newest}; see the row_set_aside events"
        )

    def state(self) -> dict[str, Any]:
        """The counts as JSON values, for the checkpoint."""
        return asdict(self.counts)

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.counts = SetAsideCounts(**state)

    def _errors(self, rows: list[JoinedRow]) -> tuple[list[str], Answers | None]:
        """Why each row cannot be learned from, empty where it can; the answers where all can."""
        errors = [self._misfit(row) for row in rows]
        fitting = [row for row, error in zip(rows, errors, strict=True) if not error]
        try:
            answers = self._answer(fitting)
        except Exception:
            raised = {id(row): self._raised(row) for row in fitting}
            if not any(raised.values()):
                raise
            self._package.baseline(self._package.reference_rows[:1])
            found = [error or raised[id(row)] for row, error in zip(rows, errors, strict=True)]
            return found, None
        return errors, answers if len(fitting) == len(rows) else None

    def _misfit(self, row: JoinedRow) -> str:
        """Why a row cannot belong to the model at all; empty where it may."""
        width, classes = len(self._package.info.features), len(self._package.info.classes)
        if len(row.features) != width:
            return f"the row has {len(row.features)} features and the model takes {width}"
        if not 0 <= row.label < classes:
            return f"the label is class {row.label} and the model has {classes} classes"
        return ""

    def _raised(self, row: JoinedRow) -> str:
        """Why the model cannot answer a row, alone or beside a good one; empty where it can."""
        beside = replace(row, features=self._package.reference_rows[0])
        try:
            self._answer([row])
            self._answer([row, beside])  # a row may spoil the answers to the others only
        except Exception as error:
            return brief(error)
        return ""

    def _answer(self, rows: list[JoinedRow]) -> Answers | None:
        if not rows:
            return None
        features = np.stack([row.features for row in rows]).astype(np.float32)
        return self._package.embed_checked(features)


def _detail(row: JoinedRow, error: str) -> dict[str, Any]:
    request, number = row.key[:KEY_BYTES].hex(), int.from_bytes(row.key[KEY_BYTES:], "big")
    name = {"key": row.key.hex()} if row.has_own_key else {"request": request, "row": number}
    return {
        **name,
        "label_seq": row.feedback_seq,
        "source": row.source,
        "error": error,
    }
