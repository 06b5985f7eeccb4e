"""What the champion, or a canary, says of rows: calls of the model, and nothing that is kept of
them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.records import RawInput
from bento_selfheal.core.text import shown
from bento_selfheal.errors import InvalidInput, PackageError
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.probabilities import no_probability, predict_probabilities
from bento_selfheal.serving.follower import Champion, Follower
from bento_selfheal.serving.reading.bad_row import by_halves, find_bad_row

Request = tuple[NDArray[np.float32], bytes]
"""Rows ``(n, features)``, at least one, and the hashes of their own keys, if they have any."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Computed:
    """What one champion says of the rows of one request."""

    champion: Champion
    rows: NDArray[np.float32]
    """``(n, features)``, as they came."""
    probabilities: NDArray[np.float32]
    """``(n,)`` of two classes, ``(n, classes)`` of more."""
    inputs: tuple[RawInput, ...] = ()
    """What the rows were made from, where that is to be kept."""


class Computing:
    """Calls what answers. It keeps nothing, so any thread may call it.

    Args:
        follower: Holds the champion and the canary.
        package: The packaged model, which knows what an answer looks like.
    """

    def __init__(self, follower: Follower, package: Package) -> None:
        self._follower = follower
        self._package = package

    def compute(self, rows: NDArray[np.float32], keys: bytes = b"") -> Computed:
        """What answers a request at this moment says of it: the champion, or a canary its share.

        A request that a canary cannot answer is the champion's.

        Args:
            rows: ``(n, features)``, at least one.
            keys: The hashes of the rows' own keys, if they have any.

        Raises:
            InvalidInput: The model cannot answer one of the rows; it is named.
            PackageError: The model answers with something else than a probability for each row.
        """
        canary = self._follower.canary
        if canary is not None and canary.takes(keys):
            try:
                return Computed(canary, rows, self._predict(canary, rows))
            except Exception as error:  # whatever a user's model raises
                log.warning("the canary, snapshot %d, fails a request: %s", canary.version, error)
        champion = self._follower.champion
        try:
            return Computed(champion, rows, self._predict(champion, rows))
        except Exception as error:
            self._refuse_bad_row(champion, rows, error)
            raise

    def compute_all(self, requests: Sequence[Request]) -> list[Computed | Exception]:
        """Compute several requests with one call of the model, as long as it does not fail; with
        two, while a canary answers some of them.

        Args:
            requests: At least one.

        Returns:
            What `compute` gives or raises for each; one that fails does not spoil the others.
        """
        return by_halves(self._together, self._computed_or_error, requests)

    def _together(self, requests: Sequence[Request]) -> list[Computed]:
        champion, canary = self._follower.champion, self._follower.canary
        if canary is None:
            return self._by(champion, requests)
        takes = [canary.takes(keys) for _, keys in requests]
        its = self._by(canary, [r for r, own in zip(requests, takes, strict=True) if own])
        others = self._by(champion, [r for r, own in zip(requests, takes, strict=True) if not own])
        both = {True: iter(its), False: iter(others)}
        return [next(both[own]) for own in takes]

    def _by(self, champion: Champion, requests: Sequence[Request]) -> list[Computed]:
        """What one model says of requests, by one call."""
        if not requests:
            return []
        every = [rows for rows, _ in requests]
        said = self._predict(champion, np.concatenate(every))
        ends = np.cumsum([len(rows) for rows in every])[:-1]
        parts = zip(every, np.split(said, ends), strict=True)
        return [Computed(champion, rows, probabilities) for rows, probabilities in parts]

    def _computed_or_error(self, request: Request) -> Computed | Exception:
        try:
            return self.compute(*request)
        except Exception as error:
            return error

    def _predict(self, champion: Champion, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """A probability for each row, whatever a user's model returns."""
        out = predict_probabilities(champion.model, rows)
        if why := self._package.misfit(rows, out) or no_probability(out):
            raise PackageError(why)
        return out

    def _refuse_bad_row(
        self, champion: Champion, rows: NDArray[np.float32], error: Exception
    ) -> None:
        """Name the row that the model cannot answer; return where the model itself fails."""
        row = find_bad_row(
            lambda part: self._predict(champion, part),
            rows,
            self._package.reference_rows[:1],
        )
        if row is not None:
            told = isinstance(error, PackageError)
            reason = str(error) if told else f"{type(error).__name__}: {shown(str(error))}"
            raise InvalidInput(
                ("rows", row), f"the model cannot answer this row: {reason}", "model"
            ) from error
