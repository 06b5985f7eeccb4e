"""What an offline run has in memory, and a service in its stores: snapshots, and rows that wait."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping

from torch import Tensor

from bento_selfheal.core.ids import KEY_HASH_BYTES
from bento_selfheal.core.records import FeedbackRecord, NewSnapshot, PredictionRecord, Snapshot
from bento_selfheal.core.tensors import not_finite
from bento_selfheal.errors import SnapshotError
from bento_selfheal.healing.labels.maturity import Maturity
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.package import Package

NO_HASH = ""
"""What is in memory needs none."""


class MemorySnapshots:
    """Snapshots that live as long as the backtest.

    Args:
        package: The packaged model that the adapters belong to.
    """

    def __init__(self, package: Package) -> None:
        self._package = package
        self._states: dict[str, dict[str, Tensor]] = {}

    def save(self, new: NewSnapshot, state: Mapping[str, Tensor]) -> Snapshot:
        """Keep an adapter."""
        if not_finite(state):
            raise SnapshotError(f"version {new.version}: weights are not finite")
        return self._keep(new, dict(state))

    def repeat(self, new: NewSnapshot, snapshot: Snapshot) -> Snapshot:
        """Keep an adapter once more, under another version."""
        return self._keep(new, self._states[snapshot.tag])

    def _keep(self, new: NewSnapshot, state: dict[str, Tensor]) -> Snapshot:
        tag = f"memory:{new.version}"
        self._states[tag] = state
        return new.kept(tag, NO_HASH)

    def load(self, tag: str, sha256: str) -> SelfHealingModel:
        """The packaged model with a kept adapter."""
        return self._package.model.with_adapter(self._states[tag]).requires_grad_(False)

    def delete(self, tag: str) -> None:
        """Forget an adapter."""
        del self._states[tag]


class WaitingRows:
    """What the store does for a runner (`WaitingRequests`), in memory.

    Args:
        maturity: Says which requests are old enough, and whether any waits at all.
    """

    def __init__(self, maturity: Maturity) -> None:
        self._maturity = maturity
        self._asked: deque[PredictionRecord] = deque()
        self._labels: dict[bytes, list[FeedbackRecord]] = defaultdict(list)
        self._by_key: dict[bytes, FeedbackRecord] = {}

    def ask(self, asked: PredictionRecord) -> None:
        """Take a request."""
        if self._maturity.waits:
            self._asked.append(asked)

    def label(self, given: FeedbackRecord) -> None:
        """Take a label."""
        if self._maturity.waits:
            self._labels[given.request].append(given)
            if given.key is not None:
                self._by_key[given.key] = given

    def due(self, now: float) -> Iterator[tuple[PredictionRecord, list[FeedbackRecord]]]:
        """The requests that are old enough by the time of the next one, with their labels."""
        while self._asked and self._maturity.is_mature(self._asked[0], now):
            asked = self._asked.popleft()
            keys = (asked.key_of(row) for row in range(len(asked.keys) // KEY_HASH_BYTES))
            bound = (self._by_key.get(key) for key in keys if key is not None)
            elsewhere = [one for one in bound if one is not None and one.request != asked.request]
            yield asked, self._labels.pop(asked.request, []) + elsewhere
