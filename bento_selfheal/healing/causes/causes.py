"""Looks for the causes of a drift when it is seen, and again as labels come."""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.healing.causes.cells import Codes, Counts, counts_in
from bento_selfheal.healing.causes.columns import add_gains, column_causes, moved_facets
from bento_selfheal.healing.causes.drift import FIRST_LOOK, Begin, Drift
from bento_selfheal.healing.causes.facets import Facets
from bento_selfheal.healing.causes.gains import Gains
from bento_selfheal.healing.causes.matching import match
from bento_selfheal.healing.causes.meaning import LOOKS, Meaning, Sample, meaning
from bento_selfheal.healing.causes.moves import Moves, moves, smallest_change
from bento_selfheal.healing.causes.recalibration import recalibrated
from bento_selfheal.healing.causes.report import NOWHERE, CauseReport, DriftKind
from bento_selfheal.healing.journal import Journal
from bento_selfheal.healing.labels.buffer import Buffer
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.healing.labels.labelled_rows import LabelledRows
from bento_selfheal.packaging.package import Package

MOST_LABELS = 2000
"""Newest labelled rows that are compared."""
LEAST_BEFORE = 500
"""Labelled rows from before a drift that take the place of the reference rows."""
PARTS = (1, 2, 4)
WINDOWS = len(PARTS) + 1
"""Windows of rows that are compared: all, half and a quarter when a drift is seen, all later."""
TELLING = 2.0
"""Labels tell that the meaning did not change once they would show a change of so many times
`error_drop`."""
MOST_MATCHED = 6
"""Facets that moved, by which labelled rows are matched with others."""
Rows = NDArray[np.float32]


class Causes:
    """Says which inputs moved, and whether their meaning did.

    It keeps the newest rows and what healing gained on the newest labels, and computes nothing
    until a drift is seen. What it finds out later it notes as the event ``drift_explained``.

    Args:
        package: The packaged model.
        settings: How many rows are compared, and which change is to be seen.
        buffer: Labelled rows.
        journal: Takes the events.

    Attributes:
        place: Place in the prediction log of the newest row.
    """

    def __init__(
        self, package: Package, settings: Settings, buffer: Buffer, journal: Journal
    ) -> None:
        self._package, self._buffer, self._journal = package, buffer, journal
        self._tuning = settings.tuning
        length = settings.tuning.fidi_window
        self._window: deque[tuple[int, int, Rows]] = deque(maxlen=length)
        self._gains = Gains(MOST_LABELS)
        self._drift: Drift | None = None
        self._before: Sample | None = None
        self.place = 0

    def take(self, rows: Rows) -> None:
        """Take a batch of rows ``(n, features)`` up to this place of the prediction log."""
        self._window.append((self.place, self._buffer.next_offset, rows))
        drift = self._drift
        if drift is None or not drift.batches:
            return
        drift.batches -= 1
        if not drift.batches:
            counts = self._newest_counts(len(self._window))
            if self._moved(self._moves(counts)):
                drift.counts = counts
            self._look_again(drift)

    def begin(self, *, fallen: bool) -> dict[str, Any]:
        """A drift is seen: what is known of its causes, as JSON values.

        Args:
            fallen: Whether labels show it, by the accuracy of the newest batches.
        """
        batches, counts = self._farthest()
        if self._drift is not None and self._goes_on(self._drift, counts):
            return self._drift.report.as_dict()
        seen = Begin(self.place, self._buffer.next_offset)
        since = self._fallen_since(seen) if fallen else self._begun(batches, seen)
        if self._drift is None or self._drift.report.kind is DriftKind.NEITHER:
            self._keep_before(since)
        self._drift = Drift(since, seen, self._length, counts, self._inputs(counts))
        self._look(self._drift)
        self._drift.told = self._drift.report.kind
        return self._drift.report.as_dict()

    def learn(self, batch: LabelledBatch) -> None:
        """Take a labelled batch that nothing has trained on yet; the buffer has those before."""
        self._gains.learn(batch)
        drift = self._drift
        if drift and drift.look <= MOST_LABELS and len(self._places(drift.seen)) >= drift.look:
            self._look_again(drift)

    def status(self) -> dict[str, Any] | None:
        """What is known of the newest drift, as JSON values; None before the first."""
        return None if self._drift is None else self._drift.report.as_dict()

    # -- looking -----------------------------------------------------------------------------

    @cached_property
    def _facets(self) -> Facets:
        return Facets(self._package)

    def _look_again(self, drift: Drift) -> None:
        """Look for causes, and note them if they are of another kind than was told."""
        self._look(drift)
        if drift.report.kind not in (drift.told, DriftKind.UNKNOWN):
            drift.told = drift.report.kind
            self._journal.note("drift_explained", drift.report.as_dict())

    def _look(self, drift: Drift) -> None:
        """Look for causes, and say when to look again."""
        facets, places = self._facets, self._places(drift.since)
        fresh, found = len(self._places(drift.seen)), self._moves(drift.counts)
        while drift.look <= min(fresh, MOST_LABELS):
            drift.look *= 2
        labelled = self._buffer.rows().at(places)
        sample = self._sample(labelled)
        known = self._before or Sample(facets.codes, facets.missed(facets.answers, facets.labels))
        moved = self._moved(found)
        vectors = facets.vectors(moved)
        alike = match(sample.codes, known.codes, facets.of_answers, moved[:MOST_MATCHED], vectors)
        if vectors and alike.like.any():
            answers = recalibrated(self._frozen(labelled), labelled.labels, alike.like)
            sample = Sample(sample.codes, facets.missed(answers, labelled.labels))
        said = meaning(sample, known, facets.of_answers, alike, self._tuning.error_drop)
        drift.changed = drift.changed or said.changed
        columns = column_causes(facets, drift.counts, found, moved, said)
        smallest = self._smallest_change(fresh, known, said)
        tells = smallest is not None and smallest <= TELLING * self._tuning.error_drop
        nowhere = drift.look > FIRST_LOOK and said.outside >= NOWHERE
        drift.report = CauseReport(
            kind=_kind(drift.changed, bool(moved), tells or nowhere),
            rows=int(drift.counts[0].sum()),
            labels=len(places),
            smallest_change=smallest,
            outside=said.outside,
            moved=len({facets.owner[i] for i in moved}),
            columns=columns,
        )
        gains = self._gains.of(self._buffer.keys[i] for i in places)
        add_gains(drift.report, facets, sample.codes, gains, drift.counts, said)

    def _smallest_change(self, labels: int, known: Sample, said: Meaning) -> float | None:
        """Of the chance of a class, the smallest change that so many labels would show; None where
        no reference row is like them."""
        compared = labels * (1 - said.outside)
        spread = float((known.missed**2).mean(axis=0).max())
        return smallest_change(spread, LOOKS, compared, said.matched) if compared else None

    def _moves(self, counts: Counts) -> Moves:
        return moves(counts, self._facets.counts, self._facets.gaps)

    def _moved(self, found: Moves) -> list[int]:
        return moved_facets(self._facets, found, WINDOWS)

    # -- which rows --------------------------------------------------------------------------

    @property
    def _length(self) -> int:
        """Batches of a full window."""
        return self._tuning.fidi_window

    def _farthest(self) -> tuple[int, Counts]:
        """How many of the newest batches moved furthest, and their counts: a drift has just begun
        when it is seen, and older rows are of the time before. All where none moved."""
        tried = [-(-len(self._window) // part) for part in PARTS]
        counts = {batches: self._newest_counts(batches) for batches in tried}
        found = {batches: self._moves(one) for batches, one in counts.items()}
        if not any(self._moved(one) for one in found.values()):
            return tried[0], counts[tried[0]]
        own = np.setdiff1d(np.arange(len(self._facets.owner)), self._facets.of_answers)
        best = min(tried, key=lambda batches: float(found[batches].chance[own].min()))
        return best, counts[best]

    def _begun(self, batches: int, seen: Begin) -> Begin:
        """Where the newest batches begin; where none has come, where the drift was seen."""
        return Begin(*self._window[-batches][:2]) if self._window else seen

    def _fallen_since(self, seen: Begin) -> Begin:
        """Where the labels begin by which a drift is seen."""
        newest = self._tuning.health_window * self._tuning.batch_size
        offset = max(seen.offset - newest, 0)
        asked = self._asked()[self._newest_offsets() >= offset]
        return Begin(int(asked[asked >= 0].min(initial=seen.place)), offset)

    def _goes_on(self, drift: Drift, counts: Counts) -> bool:
        """Whether a drift that is seen again is the one that labels still have to tell about: the
        same inputs moved."""
        unknown = drift.report.kind is DriftKind.UNKNOWN
        return unknown and bool(drift.inputs) and drift.inputs == self._inputs(counts)

    def _inputs(self, counts: Counts) -> list[int]:
        """The inputs that moved."""
        return sorted({self._facets.owner[i] for i in self._moved(self._moves(counts))})

    def _newest_counts(self, batches: int) -> Counts:
        """Of so many batches of rows; where none is full yet, of labelled rows."""
        rows = [rows for _, _, rows in list(self._window)[-batches:]]
        labelled = self._buffer.features[-self._length * self._tuning.batch_size :]
        return counts_in(self._codes(np.concatenate(rows) if rows else labelled))

    def _codes(self, rows: Rows) -> Codes:
        # No model is asked for 0 rows: not every one can answer that.
        answers = self._package.baseline(rows) if len(rows) else self._package.no_answers
        return self._facets.of(rows, answers)

    def _sample(self, labelled: LabelledRows) -> Sample:
        answers = self._frozen(labelled)
        codes = self._facets.of(labelled.features, answers)
        return Sample(codes, self._facets.missed(answers, labelled.labels))

    def _frozen(self, labelled: LabelledRows) -> Rows:
        """What the frozen model says of labelled rows."""
        if not len(labelled) or labelled.frozen is None:
            return self._package.no_answers
        return np.asarray(labelled.frozen.numpy())

    def _places(self, since: Begin) -> NDArray[np.int64]:
        """Places in the buffer of labelled rows from there on."""
        offsets, asked = self._newest_offsets(), self._asked()
        own = np.where(asked < 0, offsets >= since.offset, asked >= since.place)
        return np.flatnonzero(own) + max(len(self._buffer) - MOST_LABELS, 0)

    def _keep_before(self, since: Begin) -> None:
        """Keep labelled rows from before a drift, whose answers the model never trained on;
        reference rows of a model that was given may be among its training rows."""
        newest = np.arange(max(len(self._buffer) - MOST_LABELS, 0), len(self._buffer))
        places = np.setdiff1d(newest, self._places(since))
        if len(places) >= LEAST_BEFORE:
            self._before = self._sample(self._buffer.rows().at(places))

    def _asked(self) -> NDArray[np.int64]:
        """Places in the prediction log of the newest labelled rows; -1 where there was none."""
        return self._buffer.asked[-MOST_LABELS:]

    def _newest_offsets(self) -> NDArray[np.int64]:
        return self._buffer.offsets[-MOST_LABELS:]

    # -- checkpoint --------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """As JSON values and tensors, for the checkpoint."""
        tensors: dict[str, NDArray[Any]] = {}
        if self._window:
            tensors["rows"] = np.concatenate([rows for _, _, rows in self._window])
        if self._before is not None:
            tensors |= {"before": self._before.codes, "before_missed": self._before.missed}
        if self._drift is not None:
            tensors["counts"] = self._drift.counts
        return {
            **{name: torch.from_numpy(values.copy()) for name, values in tensors.items()},
            **self._gains.state(),
            "window": [(place, offset, len(rows)) for place, offset, rows in self._window],
            "drift": self._drift and self._drift.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        first = 0
        for place, offset, n in state["window"]:
            self._window.append((place, offset, state["rows"][first : first + n].numpy()))
            first += n
        self._gains.restore(state)
        if state["drift"] is not None:
            self._drift = Drift.restored(state["drift"], state["counts"].numpy())
        if "before" in state:
            self._before = Sample(state["before"].numpy(), state["before_missed"].numpy())


def _kind(changed: bool, moved: bool, enough: bool) -> DriftKind:
    """What a drift is, by whether its meaning changed, inputs moved, and labels are enough."""
    if changed:
        return DriftKind.BOTH if moved else DriftKind.CONCEPT
    if not enough:
        return DriftKind.UNKNOWN
    return DriftKind.COVARIATE if moved else DriftKind.NEITHER
