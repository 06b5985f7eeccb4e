"""Labels that the model cannot learn: of a class that it lacks, and those that were taken back."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.core.records import Label
from bento_selfheal.healing.labels.join import JoinedRow

Row = tuple[NDArray[np.float32], str, str | None]
"""Features, the name of the class and the source."""

MOST_ROWS = 2000
"""Rows of new classes that are kept for the export, and labels taken back that are remembered; the
oldest go first."""
MOST_CLASSES = 100
"""New classes that are counted by name; more are counted together."""
OTHERS = "others"
MEMORY = 1000.0
"""Labels after which one counts half in the share."""
FEWEST = 20.0
"""Labels that a share needs before it says anything."""


class TakenBack:
    """Rows whose label was taken back, so that a new one is told from a correction."""

    def __init__(self) -> None:
        self._scored: OrderedDict[bytes, bool] = OrderedDict()

    def add(self, key: bytes, *, scored: bool) -> None:
        """Note a row; ``scored`` says whether its label had counted in the figures."""
        self._scored[key] = scored or self._scored.pop(key, False)
        while len(self._scored) > MOST_ROWS:
            self._scored.popitem(last=False)

    def take(self, key: bytes) -> bool | None:
        """Forget a row: it has a label again. Whether one had been scored; None of other rows."""
        return self._scored.pop(key, None)

    def state(self) -> list[tuple[str, bool]]:
        """As JSON values, for the checkpoint."""
        return [(key.hex(), scored) for key, scored in self._scored.items()]

    def restore(self, state: Iterable[tuple[str, bool]]) -> None:
        """Put back what `state` gave."""
        self._scored = OrderedDict((bytes.fromhex(key), scored) for key, scored in state)


class NewClasses:
    """Rows of classes that the packaged model does not have: counted, and kept for a retrain.

    Args:
        limit: Share of the labels from which on a retrain is needed.

    Attributes:
        rows: The newest such rows by key, oldest first.
        counts: Labels of each class, by its name in JSON.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.rows: OrderedDict[bytes, Row] = OrderedDict()
        self.counts: dict[str, int] = {}
        self._new = self._all = 0.0

    def saw(self, *, new: bool) -> None:
        """Count a label in the share."""
        fade = 0.5 ** (1 / MEMORY)
        self._new, self._all = self._new * fade + new, self._all * fade + 1

    def add(self, row: JoinedRow) -> dict[str, Any] | None:
        """Keep a row; the detail of an event where its class is seen for the first time."""
        name = row.new_class or OTHERS
        if name not in self.counts and len(self.counts) >= MOST_CLASSES:
            name = OTHERS
        first = name not in self.counts
        self.counts[name] = self.counts.get(name, 0) + 1
        self.rows[row.key] = row.features, row.new_class or OTHERS, row.source
        while len(self.rows) > MOST_ROWS:
            self.rows.popitem(last=False)
        if not first:
            return None
        return {"class": _class(name), "share": self.share, "source": row.source}

    def drop(self, key: bytes) -> bool:
        """Let a row go that has another label now, or none; whether it was here."""
        return self.rows.pop(key, None) is not None

    def forget(self, source: str) -> int:
        """Remove every row that a source labelled; returns how many."""
        gone = [key for key, row in self.rows.items() if row[2] == source]
        for key in gone:
            del self.rows[key]
        return len(gone)

    @property
    def share(self) -> float:
        """Share of the newest labels, some thousand, that are of new classes."""
        return self._new / self._all if self._all else 0.0

    @property
    def trouble(self) -> str:
        """Why a retrain is needed; empty while new classes are rare."""
        if self._all < FEWEST or self.share <= self._limit:
            return ""
        named = ", ".join(str(_class(name)) for name in list(self.counts)[:3])
        more = ", …" if len(self.counts) > 3 else ""
        return f"{self.share:.1%} of the newest labels are of classes it never saw: {named}{more}"

    def labelled(self) -> tuple[NDArray[np.float32], list[Label], list[str | None]]:
        """The rows ``(n, features)`` with their classes and sources, one at least."""
        features, names, sources = zip(*self.rows.values(), strict=True)
        return np.stack(features), [_class(name) for name in names], list(sources)

    def status(self) -> dict[str, Any]:
        """Labels of each new class by its name, and their share of the newest labels."""
        counts = {str(_class(name)): count for name, count in self.counts.items()}
        return {"classes": counts, "share": self.share, "rows": len(self.rows)}

    def state(self) -> dict[str, Any]:
        """As JSON values and one tensor, for the checkpoint."""
        rows = [row[0] for row in self.rows.values()]
        facts = [(key.hex(), name, source) for key, (_, name, source) in self.rows.items()]
        return {
            "features": torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0),
            "facts": facts,
            "counts": self.counts,
            "new": self._new,
            "all": self._all,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        for (key, name, source), row in zip(state["facts"], state["features"], strict=True):
            self.rows[bytes.fromhex(key)] = row.numpy(), name, source
        self.counts, self._new, self._all = state["counts"], state["new"], state["all"]


def _class(name: str) -> Label:
    return OTHERS if name == OTHERS else json.loads(name)
