"""Snapshots without a model store."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from bento_selfheal.core.records import NewSnapshot, Snapshot
from bento_selfheal.core.tensors import not_finite
from bento_selfheal.errors import SnapshotError
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
