"""A client that goes on through every fault and keeps what it was told."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.core.ids import IdSigner
from bento_selfheal.core.records import FeedbackRecord
from bento_selfheal.errors import SnapshotError
from bento_selfheal.packaging.adapters import Registry
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.streams import article_rows
from bento_selfheal.store import SqlStore

BATCH = 20
LABELLED = 5
"""Rows of each batch that get a label: a runner learns 60 labels a second on a busy machine too."""
PAUSE = 0.08
TURN_ROWS = 1000
DRIFTS = (0.0, 2.2, 0.0, 3.5)


@dataclass
class Told:
    """What the service said since the last look."""

    answered: int = 0
    """Requests of predictions."""
    failed: int = 0
    slowest: float = 0.0
    """Seconds."""
    feedback: Counter[int] = field(default_factory=Counter)
    """Answers to feedback by status; 0 where none came."""
    without_retry_after: int = 0
    """Refusals with 503 that did not say when to try again."""


@dataclass(frozen=True)
class Answer:
    """One request's answer."""

    rows: NDArray[np.float32]
    probabilities: list[float]
    version: int


class Teller:
    """Predicts in one thread, labels some rows in another, each label until it is acknowledged.

    Args:
        url: Of the service.
        seed: Of the rows.
        pause: Seconds between two requests of predictions.
    """

    def __init__(self, url: str, seed: int = 0, pause: float = PAUSE) -> None:
        self._url = url
        self._pause = pause
        self._generator = np.random.default_rng(seed)
        self._owed: deque[list[tuple[str, int]]] = deque()
        self._stop, self._hold = threading.Event(), threading.Event()
        self.acknowledged: dict[str, int] = {}
        self.answers: list[Answer] = []
        self.rows = 0
        self._told = Told()
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._ask, self._label)]

    def __enter__(self) -> Teller:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._hold.set()
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def look(self) -> Told:
        """What was told since the last look."""
        told, self._told = self._told, Told()
        return told

    def rest(self) -> None:
        """Ask no more; labels that are owed are still given."""
        self._hold.set()

    @property
    def owes(self) -> int:
        """Requests whose labels are not acknowledged yet."""
        return len(self._owed)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._hold.wait(self._pause):
                drift = DRIFTS[self.rows // TURN_ROWS % len(DRIFTS)]
                table = article_rows(BATCH, drift, self._generator)
                started = time.monotonic()
                try:
                    response = client.post("/predict", json={"rows": table.rows.tolist()})
                    answer = response.raise_for_status().json()
                except httpx.HTTPError:
                    self._told.failed += 1
                    continue
                self._told.answered += 1
                self._told.slowest = max(self._told.slowest, time.monotonic() - started)
                self.rows += BATCH
                self.answers.append(
                    Answer(table.rows, answer["probabilities"], answer["model_version"])
                )
                ids, labels = answer["prediction_ids"][:LABELLED], table.labels[:LABELLED].tolist()
                self._owed.append(list(zip(ids, labels, strict=True)))

    def _label(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stop.is_set():
                if not self._owed:
                    self._stop.wait(0.01)
                    continue
                given = self._owed[0]
                items = [{"prediction_id": i, "label": label} for i, label in given]
                try:
                    response = client.post("/feedback", json={"items": items})
                except httpx.HTTPError:
                    self._told.feedback[0] += 1
                    self._stop.wait(0.1)
                    continue
                self._heard(response, given)

    def _heard(self, response: httpx.Response, given: list[tuple[str, int]]) -> None:
        self._told.feedback[response.status_code] += 1
        if response.status_code != 200:
            self._told.without_retry_after += "Retry-After" not in response.headers
            self._stop.wait(0.1)
            return
        counts = response.json()
        assert counts["accepted"] + counts["already_known"] == len(given), counts
        self.acknowledged |= dict(given)
        self._owed.popleft()


@dataclass
class Kept:
    """What the store holds beside what was acknowledged."""

    lost: int
    twice: int
    labels: int


def compare(teller: Teller, store: SqlStore) -> Kept:
    """Every acknowledged label against the store."""
    signer = IdSigner(store.meta("secret") or "")
    stored: Counter[tuple[bytes, int, int]] = Counter()
    place = (0, 0)
    while entries := store.read_log(*place, limit=4096):
        for entry in entries:
            if isinstance(entry, FeedbackRecord):
                stored[entry.request, entry.row, entry.label] += 1
                place = (place[0], entry.seq)
            else:
                place = (entry.seq, place[1])
    given = {(*(signer.read(i) or (b"", 0)), label) for i, label in teller.acknowledged.items()}
    return Kept(len(given - stored.keys()), sum(n > 1 for n in stored.values()), stored.total())


def unverified(teller: Teller, store: SqlStore, package: Package) -> int:
    """Answers that came from no promoted adapter that verifies, to the last digit."""
    registry = Registry(package, store.meta("store_id") or "", store if store.shared else None)
    promoted = {p.version: p for p in store.promotions(limit=100_000)}
    models: dict[int, Any] = {}
    wrong = 0
    for answer in teller.answers:
        promotion = promoted.get(answer.version)
        if promotion is None:
            wrong += 1
            continue
        if answer.version not in models:
            try:
                models[answer.version] = registry.load(promotion.tag, promotion.sha256)
            except SnapshotError:
                wrong += 1
                continue
        with torch.no_grad():
            expected = models[answer.version](torch.from_numpy(answer.rows)).numpy()
        wrong += not np.allclose(expected, answer.probabilities, atol=1e-6)
    return wrong
