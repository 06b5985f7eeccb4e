"""Data collection: what was predicted and what was true, through `bentoml.monitor`.

All records have the same columns, since BentoML writes one schema a monitor: `prediction_id`, the
features, `probability`, `prediction`, `model_version` and `label`. A prediction has no label yet;
a label comes as a record of its own under the same `prediction_id`, with nothing else in it, or
with its features where the client keeps no ids. Of several labels of an id the last one holds.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import bentoml
import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.ids import ids_of
from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.core.records import Label
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.schema import Schema

log = logging.getLogger(__name__)

NAME = "selfheal"
OURS = ("prediction_id", "probability", "prediction", "model_version", "label")
BENTOMLS = ("timestamp", "request_id", "trace_id", "bento_meta")


@dataclass(frozen=True)
class Predicted:
    """One request, as it was answered."""

    token: str
    rows: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    threshold: float
    version: int

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Labelled:
    """Labels of one request that were accepted."""

    ids: Sequence[str | None]
    rows: Sequence[NDArray[np.float32] | None]
    labels: Sequence[Label]

    def __len__(self) -> int:
        return len(self.ids)


class DataMonitor:
    """A bounded queue in front of `bentoml.monitor`; a thread writes, so that no request waits.

    Args:
        features: Names of the columns of rows.
        classes: The classes, in their order.
        columns: Types of the columns; none where all are numbers without gaps.
        hidden: How many of the first columns are a hidden vector, which says nothing to people.
        interval: Seconds between two writes.
        limit: Most rows that may wait; beyond it new ones are left out and counted.

    Attributes:
        thread: Writes the queue; to be started and stopped. It writes what is left at its end.
    """

    def __init__(
        self,
        features: Sequence[str],
        classes: Sequence[Label],
        *,
        columns: Sequence[Column] = (),
        hidden: int = 0,
        interval: float,
        limit: int,
    ) -> None:
        self._columns = column_names(features[hidden:])
        self._schema = Schema(columns[hidden:]) if columns else None
        self._hidden = hidden
        self._classes = list(classes)
        self._limit = limit
        self._queue: deque[Predicted | Labelled] = deque()
        self._waiting = 0
        self._left_out = 0
        self._lock = threading.Lock()
        self._schema_known = False
        self._fails = False
        self.thread = PeriodicThread("selfheal-monitor", self._flush, interval, at_end=self._flush)

    def append(self, record: Predicted | Labelled) -> None:
        """Keep a record for the thread; never waits."""
        with self._lock:  # predictions come from the event loop, labels from threads
            if self._waiting + len(record) > self._limit:
                self._left_out += len(record)
            elif len(record):
                self._waiting += len(record)
                self._queue.append(record)

    def _flush(self) -> None:
        while self._queue:
            record = self._queue.popleft()
            try:
                # BentoML leaves a record that failed half-open in the context that it began in.
                contextvars.copy_context().run(self._record, record)
                self._fails = False
            except Exception:  # whatever class of monitor is configured; predictions go on
                if not self._fails:  # once, however many follow
                    log.exception(
                        "the monitor does not accept rows; they are left out until it does"
                    )
                self._fails = True
            with self._lock:
                self._waiting -= len(record)
        with self._lock:
            left_out, self._left_out = self._left_out, 0
        if left_out:
            log.error(
                "%d rows came faster than the monitor accepts them and were left out", left_out
            )

    def _record(self, record: Predicted | Labelled) -> None:
        columns = self._of_labels(record) if isinstance(record, Labelled) else self._of_rows(record)
        if not self._schema_known:
            # BentoML warns of a column that comes twice while it gathers the schema.
            self._log({name: values[:1] for name, values in columns.items()})
            columns = {name: values[1:] for name, values in columns.items()}
            self._schema_known = True
        if columns["prediction_id"]:
            self._log(columns)

    def _log(self, columns: dict[str, list[Any]]) -> None:
        many = len(self._classes) > 2
        with bentoml.monitor(NAME) as monitor:
            for name, values in columns.items():
                role, kind = "feature", "numerical"
                if name in OURS:
                    role, kind = ("target" if name == "label" else "prediction"), "categorical"
                if name == "probability":
                    kind = "numerical_sequence" if many else "numerical"
                monitor.log_batch(values, name, role, kind)

    def _of_rows(self, record: Predicted) -> dict[str, list[Any]]:
        said = decide_classes(record.probabilities, record.threshold).tolist()
        return {
            "prediction_id": ids_of(record.token, len(record)),
            **dict(zip(self._columns, self._values(record.rows), strict=True)),
            "probability": record.probabilities.tolist(),
            "prediction": [self._classes[i] for i in said],
            "model_version": [record.version] * len(record),
            "label": [None] * len(record),
        }

    def _values(self, rows: NDArray[np.float32]) -> list[list[Any]]:
        """By column what rows ``(n, features)`` say."""
        rows = rows[:, self._hidden :]
        if self._schema is None:
            plain: list[list[Any]] = rows.T.tolist()
            return plain
        return [[_json(v) for v in values] for values in self._schema.values(rows).values()]

    def _row(self, row: NDArray[np.float32] | None) -> list[Any]:
        if row is None:
            return [None] * len(self._columns)
        return [value for [value] in self._values(row[None])]

    def _of_labels(self, record: Labelled) -> dict[str, list[Any]]:
        nothing = [None] * len(record)
        rows = [self._row(row) for row in record.rows]
        return {
            "prediction_id": list(record.ids),
            **{name: [row[i] for row in rows] for i, name in enumerate(self._columns)},
            "probability": nothing,
            "prediction": nothing,
            "model_version": nothing,
            "label": list(record.labels),
        }


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def column_names(features: Sequence[str]) -> list[str]:
    """A column for each feature, none of them with a name that is taken.

    >>> column_names(["V14", "label"])
    ['V14', 'label_']
    """
    taken = {*OURS, *BENTOMLS}
    names = []
    for name in features:
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names
