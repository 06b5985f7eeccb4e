"""Snapshots without a model store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from safetensors.torch import load
from torch import Tensor

from bento_selfheal.core.records import NewSnapshot, Snapshot
from bento_selfheal.core.tensors import not_finite, to_bytes
from bento_selfheal.errors import SnapshotError
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.package import Package


class MemorySnapshots:
    """Snapshots that live as long as the backtest.

    Args:
        package: The packaged model that the adapters belong to.
    """

    def __init__(self, package: Package) -> None:
        self._package = package
        self._blobs: dict[str, bytes] = {}

    def save(self, new: NewSnapshot, state: Mapping[str, Tensor]) -> Snapshot:
        """Keep an adapter."""
        if not_finite(state):
            raise SnapshotError(f"version {new.version}: weights are not finite")
        blob = to_bytes(state)
        return self._keep(new, blob, hashlib.sha256(blob).hexdigest())

    def repeat(self, new: NewSnapshot, snapshot: Snapshot) -> Snapshot:
        """Keep an adapter once more, under another version."""
        return self._keep(new, self._blobs[snapshot.tag], snapshot.sha256)

    def _keep(self, new: NewSnapshot, blob: bytes, sha256: str) -> Snapshot:
        tag = f"memory:{new.version}"
        self._blobs[tag] = blob
        return new.kept(tag, sha256)

    def load(self, tag: str, sha256: str) -> SelfHealingModel:
        """The packaged model with a kept adapter."""
        return self._package.model.with_adapter(load(self._blobs[tag])).requires_grad_(False)

    def delete(self, tag: str) -> None:
        """Forget an adapter."""
        del self._blobs[tag]
