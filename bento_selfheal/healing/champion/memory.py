"""Snapshots in memory."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from bento_selfheal.core.records import NewSnapshot, Snapshot
from bento_selfheal.core.tensors import not_finite
from bento_selfheal.errors import SnapshotError
from bento_selfheal.healing.champion.snapshots import SnapshotStore
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.package import Package

NO_HASH = ""
"""What is in memory needs none."""


class MemorySnapshots:
    """Snapshots that live as long as a backtest, or while logs are read again.

    Args:
        package: The packaged model that the adapters belong to.
        others: Where those are that were not saved here.
    """

    def __init__(self, package: Package, others: SnapshotStore | None = None) -> None:
        self._package = package
        self._others = others
        self._states: dict[str, dict[str, Tensor]] = {}

    def save(self, new: NewSnapshot, state: Mapping[str, Tensor]) -> Snapshot:
        """Keep an adapter."""
        if not_finite(state):
            raise SnapshotError(f"version {new.version}: weights are not finite")
        return self._keep(new, dict(state))

    def repeat(self, new: NewSnapshot, snapshot: Snapshot) -> Snapshot:
        """Keep an adapter once more, under another version."""
        if snapshot.tag not in self._states and self._others is not None:
            found = self._others.load(snapshot.tag, snapshot.sha256)
            return self._keep(new, found.adapter_state())
        return self._keep(new, self._states[snapshot.tag])

    def _keep(self, new: NewSnapshot, state: dict[str, Tensor]) -> Snapshot:
        tag = f"memory:{new.version}"
        self._states[tag] = state
        return new.kept(tag, NO_HASH)

    def load(self, tag: str, sha256: str) -> SelfHealingModel:
        """The packaged model with a kept adapter."""
        if tag not in self._states and self._others is not None:
            return self._others.load(tag, sha256)
        return self._package.with_adapter(self._states[tag]).requires_grad_(False)

    def delete(self, tag: str) -> None:
        """Forget an adapter."""
        del self._states[tag]
