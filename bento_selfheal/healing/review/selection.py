"""Which rows people are asked about, and how likely each was to be."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.log.erased import rows_left
from bento_selfheal.core.records import PredictionRecord
from bento_selfheal.core.review.asked_row import AskedRow
from bento_selfheal.healing.labels.join import JoinedRow, row_key
from bento_selfheal.healing.review.contest import Contest
from bento_selfheal.healing.review.pace import FIRST_SECONDS, Pace
from bento_selfheal.healing.review.purse import Purse
from bento_selfheal.healing.review.worth import Worth
from bento_selfheal.scoring.review import Review, draws

AT_RANDOM, AT_RANDOM_WHEN_PROVEN = 0.3, 1.0
"""Part of the labels that go to rows whatever they are: no row is less likely to be asked for than
that part of the mean, which bounds the weights. Once a line has proven itself all do: it answers
nearly as what serves does, and follows the world best by rows as they come."""
MOST_OFTEN = 10.0
"""Nor more likely than so many times the mean: what was drawn above is not even looked at."""
REMEMBERED = 20_000
"""Rows that were asked for last, whose labels may still come."""
FORGOTTEN = (-1, 0.0, 0.0, 0.0)


class Selection:
    """Chooses the rows of the review queue: by their worth, or as the policy of the workers says.

    Chances are the runner's, which knows the challenger. They depend on what was answered and on
    labels from before alone, and a row is drawn by its request's key, so a replay draws the same.

    Args:
        settings: The policy: ``review`` and ``review_budget``.
    """

    def __init__(self, settings: Settings) -> None:
        self._rule, self._budget = settings.review, settings.review_budget or 0
        self._pace, self._purse = Pace(), Purse()
        self.share = 1.0
        self._worth = Worth()
        self._first = self._last = 0
        self._asked: dict[bytes, tuple[int, float, float, float]] = {}

    def choose(self, entry: PredictionRecord, contest: Contest) -> list[AskedRow]:
        """The rows of a request whose labels are asked for.

        Args:
            entry: The request.
            contest: The challenger, and how it stands at the gate.
        """
        if self._rule == "queue":
            return self._by_worth(entry, contest)
        return _by_policy(entry) if entry.review else []

    def _by_worth(self, entry: PredictionRecord, contest: Contest) -> list[AskedRow]:
        left = rows_left(entry)
        self._pace.take(int(left.sum()), entry.time)
        self._first, self._last = self._first or entry.seq, entry.seq
        self.share = self._share(int(left.sum()), entry.time)
        drawn = draws(entry.request, len(entry.probabilities))
        near = np.flatnonzero(left & (drawn < _chances(self.share, np.asarray(MOST_OFTEN))))
        if not len(near):
            return []
        said = entry.probabilities[near], contest.answers(entry.features[near])
        worth, most, why = self._worth.of(*said, contest.costs)
        at_random = AT_RANDOM_WHEN_PROVEN if contest.proven else AT_RANDOM
        worth = np.minimum(at_random + (1 - at_random) * np.append(worth, most), MOST_OFTEN)
        *chances, highest = _chances(self.share, worth).tolist()
        chosen = []
        for row, chance, reason in zip(near.tolist(), chances, why, strict=True):
            if drawn[row] < chance:
                self._remember(entry, row, (chance, self.share, highest))
                turn = float(drawn[row]) / chance
                chosen.append(AskedRow(entry.request, row, chance, turn, reason, entry.time))
        self._purse.spent += len(chosen)
        return chosen

    def _share(self, rows: int, time: float) -> float:
        """Share of a request's rows to ask for."""
        share = self._purse.share(self._budget, self._pace.rows_a_day, time)
        if self._pace.known:
            return share
        return max(share, self._purse.first_share(self._budget, rows, FIRST_SECONDS))

    def _remember(
        self, entry: PredictionRecord, row: int, chances: tuple[float, float, float]
    ) -> None:
        key = _key(entry, row)
        self._asked.pop(key, None)
        self._asked[key] = entry.seq, *chances
        while len(self._asked) > REMEMBERED:
            del self._asked[next(iter(self._asked))]

    def asks_for(self, entry: PredictionRecord, row: int) -> bool:
        """Whether the label of a row of a request is asked for, once it was taken."""
        if self._rule == "queue":
            return self._asked.get(_key(entry, row), FORGOTTEN)[0] == entry.seq
        return not entry.review or bool(_review(entry).asked(entry.request)[row])

    def weigh(self, row: JoinedRow) -> JoinedRow:
        """A labelled row with what it stands for, where it could have come into the queue."""
        # Behind the newest row of the queue stand only rows that were sent again.
        after = row.asked > self._last and self._rule != "queue"
        if not self._first or row.asked < self._first or after:
            return row
        seq, chance, *around = self._asked.get(row.key, FORGOTTEN)
        asked = seq == row.asked
        return replace(row, stands_for=(1 / chance, *around) if asked else (0.0, 1.0))

    def begin_anew(self) -> None:
        """Go on where nothing tells which rows were asked for: no label of before counts, since the
        rows that have one may have been chosen."""
        if self._rule == "queue":
            self._first = 1

    def status(self) -> dict[str, float | int]:
        """How much is asked, for people."""
        return {"rows_a_day": self._pace.rows_a_day, "share": self.share}

    def state(self) -> dict[str, Any]:
        """As JSON values and tensors, for the checkpoint."""
        keys = np.frombuffer(b"".join(self._asked), dtype=np.uint8).reshape(-1, 16)
        facts = np.asarray(list(self._asked.values()), dtype=np.float64).reshape(-1, 4)
        return {
            "pace": asdict(self._pace),
            "purse": asdict(self._purse),
            "share": self.share,
            "worth": asdict(self._worth),
            "first": self._first,
            "last": self._last,
            "keys": torch.from_numpy(keys.copy()),
            "rows": torch.from_numpy(facts),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self._pace, self._worth = Pace(**state["pace"]), Worth(**state["worth"])
        self._first, self._last = state["first"], state["last"]
        self._purse = Purse(**state.get("purse", {}))  # older releases had none
        self.share = state.get("share", self.share)
        keys = [bytes(key) for key in state["keys"].numpy()]
        rows = state["rows"]
        if rows.shape[1] == 3:  # nor the chance of the likeliest rows
            rows = torch.cat([rows, rows[:, 2:]], dim=1)
        facts = [(int(seq), *chances) for seq, *chances in rows.tolist()]
        self._asked = dict(zip(keys, facts, strict=True))


def _chances(share: float, worth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chances in proportion to the worth where people can label a small share of the rows; of half
    of them or more, nearly all that tell much. At a worth of 1 it is the share."""
    return np.asarray(1 - (1 - share) ** worth)


def _key(entry: PredictionRecord, row: int) -> bytes:
    """What a labelled row is known by (`JoinedRow.key`)."""
    return entry.key_of(row) or row_key(entry.request, row)


def _review(entry: PredictionRecord) -> Review:
    return Review.unpack(entry.review, len(entry.probabilities))


def _by_policy(entry: PredictionRecord) -> list[AskedRow]:
    """The rows that the workers' policy asks for."""
    review = _review(entry)
    drawn, chances = draws(entry.request, len(review.certain)), review.chances
    return [
        AskedRow(
            entry.request, row, float(chances[row]), float(drawn[row] / chances[row]),
            "looked at in any case" if review.certain[row] else "drawn by chance", entry.time,
        )
        for row in np.flatnonzero(review.asked(entry.request) & rows_left(entry)).tolist()
    ]  # fmt: skip
