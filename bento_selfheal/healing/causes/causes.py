"""Looks for the causes of a drift when it is seen, and again as labels come."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.healing.causes.cells import Counts, counts_in
from bento_selfheal.healing.causes.columns import add_gains, column_causes, moved_facets
from bento_selfheal.healing.causes.facets import Facets
from bento_selfheal.healing.causes.meaning import LOOKS, Meaning, Sample, meaning
from bento_selfheal.healing.causes.moves import Moves, labels_needed, moves
from bento_selfheal.healing.causes.report import CauseReport, DriftKind
from bento_selfheal.healing.labels.buffer import KEY_BYTES, Buffer
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.healing.labels.labelled_rows import LabelledRows
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.losses import brier

MOST_LABELS = 2000
"""Newest labelled rows that are compared."""
FIRST_LOOK = 50
"""Labels at which is looked first; then always at twice as many."""
LEAST_BEFORE = 300
"""Labelled rows from before the first drift that take the place of the reference rows."""
PARTS = (1, 2, 4)
WINDOWS = len(PARTS) + 1
"""Windows of rows that are compared: all, half and a quarter when a drift is seen, all later."""
MOST_MATCHED = 6
"""Facets that moved, by which labelled rows are matched with others."""


@dataclass
class Drift:
    """A drift whose causes are looked for.

    Attributes:
        since: Place in the prediction log from which on rows are of it.
        offset: The same of rows that came with their label: labels that came before.
        batches: Batches of rows until all of the window came after the drift was seen.
        look: Labels at which is looked next.
        told: The kind that was told last.
        changed: Whether labels have said that the meaning changed.
    """

    since: int
    offset: int
    batches: int
    look: int = FIRST_LOOK
    told: DriftKind = DriftKind.UNKNOWN
    changed: bool = False


class Causes:
    """Says which inputs moved, and whether their meaning did.

    It keeps the newest rows and what healing gained on the newest labels, and computes nothing
    until a drift is seen.

    Args:
        package: The packaged model.
        settings: How many rows are compared, and which change is to be seen.
        buffer: Labelled rows.

    Attributes:
        report: What is known of the newest drift; None before the first.
    """

    def __init__(self, package: Package, settings: Settings, buffer: Buffer) -> None:
        self._package, self._buffer, self._tuning = package, buffer, settings.tuning
        length = settings.tuning.fidi_window
        self._window: deque[tuple[int, int, NDArray[np.float32]]] = deque(maxlen=length)
        self._gains: OrderedDict[bytes, float] = OrderedDict()
        self._drift: Drift | None = None
        self._counts: Counts | None = None  # of the newest rows, as they are compared
        self._before: Sample | None = None
        self.report: CauseReport | None = None

    def take(self, rows: NDArray[np.float32], place: int) -> dict[str, Any] | None:
        """Take a batch of rows ``(n, features)`` up to this place of the prediction log; what is
        known now, as JSON values, if that is another kind of drift."""
        self._window.append((place, self._buffer.next_offset, rows))
        drift = self._drift
        if drift is None or not drift.batches:
            return None
        drift.batches -= 1
        if drift.batches:
            return None
        counts = self._newest_counts(len(self._window))
        if self._moved(counts):
            self._counts = counts
        return self._look(drift)

    def begin(self, *, fallen: bool) -> dict[str, Any]:
        """A drift is seen: what is known of its causes, as JSON values.

        Args:
            fallen: Whether labels show it, by the accuracy of the newest batches.
        """
        place, offset, _ = self._window[0]
        if fallen:
            newest = self._tuning.health_window * self._tuning.batch_size
            offset = min(offset, max(self._buffer.next_offset - newest, 0))
            asked = self._newest().asked
            asked = None if asked is None else asked[self._newest_offsets() >= offset]
            if asked is not None and (asked >= 0).any():
                place = min(place, int(asked[asked >= 0].min()))
        first = self._drift is None
        self._drift = Drift(place, offset, self._window.maxlen or 1)
        if first:
            self._keep_before(self._drift)
        self._counts = self._farthest_counts()
        self._look(self._drift)
        self._drift.told = self._known().kind
        return self._known().as_dict()

    def learn(self, batch: LabelledBatch) -> dict[str, Any] | None:
        """Take a labelled batch that the buffer has; what is known now, as JSON values, if that is
        another kind of drift."""
        frozen, served = brier(batch.baseline, batch.labels), brier(batch.served, batch.labels)
        for row, gain in zip(batch.rows, (frozen - served).tolist(), strict=True):
            self._gains[row.key] = gain
        while len(self._gains) > MOST_LABELS:
            self._gains.popitem(last=False)
        drift = self._drift
        if drift is None or drift.look > MOST_LABELS:
            return None
        return self._look(drift) if len(self._places(drift)) >= drift.look else None

    # -- looking -----------------------------------------------------------------------------

    @cached_property
    def _facets(self) -> Facets:
        return Facets(self._package)

    def _look(self, drift: Drift) -> dict[str, Any] | None:
        """Look for causes, and note when to look again."""
        facets, counts = self._facets, self._counts
        assert counts is not None
        found, places = self._moves(counts), self._places(drift)
        while drift.look <= min(len(places), MOST_LABELS):
            drift.look *= 2
        labelled = self._buffer.rows().at(places)
        sample = self._sample(labelled)
        known = self._before or Sample(facets.codes, facets.missed(facets.answers, facets.labels))
        moved = self._moved(counts)
        matched = facets.of_answers, moved[:MOST_MATCHED]
        said = meaning(sample, known, *matched, self._tuning.error_drop)
        drift.changed = drift.changed or said.changed
        self.report = self._report(drift, found, moved, said, labelled, known)
        gains = [self._gains.get(self._buffer.keys[i], np.nan) for i in places]
        add_gains(self.report, facets, sample.codes, np.asarray(gains), counts, said)
        if self.report.kind in (drift.told, DriftKind.UNKNOWN):
            return None
        drift.told = self.report.kind
        return self.report.as_dict()

    def _report(
        self, drift: Drift, found: Moves, moved: list[int], said: Meaning, labelled: LabelledRows,
        known: Sample,
    ) -> CauseReport:  # fmt: skip
        assert self._counts is not None
        columns = column_causes(self._facets, self._counts, found, moved, said)
        compared = len(labelled) * (1 - said.outside)
        spread = float((known.missed**2).mean(axis=0).max())
        needed = labels_needed(spread, self._tuning.error_drop, LOOKS, said.matched)
        needed = min(needed, MOST_LABELS)
        missing = None if said.outside == 1 else int(max(needed - compared, 0) / (1 - said.outside))
        if drift.changed:
            kind = DriftKind.BOTH if moved else DriftKind.CONCEPT
        elif compared < needed:
            kind = DriftKind.UNKNOWN
        else:
            kind = DriftKind.COVARIATE if moved else DriftKind.NEITHER
        return CauseReport(
            kind=kind,
            rows=int(self._counts[0].sum()),
            labels=len(labelled),
            labels_missing=missing,
            outside=said.outside,
            moved=len({self._facets.owner[i] for i in moved}),
            columns=columns,
        )

    def _moves(self, counts: Counts) -> Moves:
        return moves(counts, self._facets.counts, self._facets.gaps)

    def _moved(self, counts: Counts) -> list[int]:
        return moved_facets(self._facets, self._moves(counts), WINDOWS)

    def _farthest_counts(self) -> Counts:
        """Of all, half and a quarter of the window those that moved furthest: a drift has just
        begun when it is seen, and older rows are of the time before."""
        tried = [self._newest_counts(-(-len(self._window) // part)) for part in PARTS]
        return min(tried, key=lambda counts: self._least_chance(counts))

    def _least_chance(self, counts: Counts) -> float:
        found = self._moves(counts)
        own = np.setdiff1d(np.arange(len(found.chance)), self._facets.of_answers)
        return float(found.chance[own].min(initial=1.0))

    def _newest_counts(self, batches: int) -> Counts:
        rows = np.concatenate([rows for _, _, rows in list(self._window)[-batches:]])
        return counts_in(self._facets.of(rows, self._package.baseline(rows)))

    def _sample(self, labelled: LabelledRows) -> Sample:
        facets = self._facets
        if not len(labelled) or labelled.frozen is None:
            return Sample(facets.codes[:0], facets.missed(facets.answers, facets.labels)[:0])
        answers = labelled.frozen.numpy()
        return Sample(
            facets.of(labelled.features, answers), facets.missed(answers, labelled.labels)
        )

    def _places(self, drift: Drift) -> NDArray[np.int64]:
        """Places in the buffer of labelled rows of a drift."""
        offsets, asked = self._newest_offsets(), self._newest().asked
        own = offsets >= drift.offset
        if asked is not None:
            own = np.where(asked < 0, own, asked >= drift.since)
        return np.flatnonzero(own) + max(len(self._buffer) - MOST_LABELS, 0)

    def _keep_before(self, drift: Drift) -> None:
        """Keep labelled rows from before the first drift, whose answers the model never trained
        on; reference rows of a model that was given may be among its training rows."""
        places = np.setdiff1d(
            np.arange(max(len(self._buffer) - MOST_LABELS, 0), len(self._buffer)),
            self._places(drift),
        )
        if len(places) >= LEAST_BEFORE:
            self._before = self._sample(self._buffer.rows().at(places))

    def _newest(self) -> LabelledRows:
        return self._buffer.rows().tail(MOST_LABELS)

    def _newest_offsets(self) -> NDArray[np.int64]:
        return self._buffer.offsets[-MOST_LABELS:]

    def _known(self) -> CauseReport:
        assert self.report is not None
        return self.report

    # -- checkpoint --------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """As JSON values and tensors, for the checkpoint."""
        keys = np.frombuffer(b"".join(self._gains), dtype=np.uint8).reshape(-1, KEY_BYTES)
        tensors: dict[str, NDArray[Any]] = {
            "gain_keys": keys,
            "gains": np.asarray([*self._gains.values()], dtype=np.float64),
        }
        if self._window:
            tensors["rows"] = np.concatenate([rows for _, _, rows in self._window])
        if self._counts is not None:
            tensors["counts"] = self._counts
        if self._before is not None:
            tensors |= {"before": self._before.codes, "before_missed": self._before.missed}
        return {
            **{name: torch.from_numpy(values.copy()) for name, values in tensors.items()},
            "window": [(place, offset, len(rows)) for place, offset, rows in self._window],
            "drift": None if self._drift is None else asdict(self._drift),
            "report": self.report and self.report.as_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        first = 0
        for place, offset, n in state["window"]:
            self._window.append((place, offset, state["rows"][first : first + n].numpy()))
            first += n
        keys = [key.tobytes() for key in state["gain_keys"].numpy()]
        self._gains = OrderedDict(zip(keys, state["gains"].tolist(), strict=True))
        if (drift := state["drift"]) is not None:
            self._drift = Drift(**{**drift, "told": DriftKind(drift["told"])})
        if "counts" in state:
            self._counts = state["counts"].numpy()
        if "before" in state:
            self._before = Sample(state["before"].numpy(), state["before_missed"].numpy())
        self.report = state["report"] and CauseReport.from_dict(state["report"])
