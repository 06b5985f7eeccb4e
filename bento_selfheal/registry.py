"""Snapshots: adapters in the BentoML model store, verified before they may serve."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bentoml
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .errors import SnapshotError
from .model import SelfHealingModel
from .modelstore import delete_model, home_store, new_model
from .package import Package
from .records import Phase, Snapshot

ADAPTER = "adapter.safetensors"
CANARY_TOLERANCE = 1e-4


class Registry:
    """The snapshots of one packaged model in one store.

    All lie under one name, ``<package>-adapter``; which of them serves is the promotion
    log's to say. Only the leading runner writes here, so versions are never made at once.

    Args:
        package: The packaged model that the adapters belong to.
        store_id: The store's own id, which keeps two stores' snapshots apart.
    """

    def __init__(self, package: Package, store_id: str) -> None:
        self.package = package
        self._store_id = store_id

    def tag(self, version: int, phase: Phase) -> str:
        return f"{self.package.name}-adapter:{self._store_id}-{version:06d}-{phase.value}"

    def save(
        self,
        version: int,
        phase: Phase,
        state: Mapping[str, Tensor],
        *,
        heal: int,
        batch: int,
        reason: str,
        facts: Mapping[str, Any] | None = None,
    ) -> Snapshot:
        """Write an adapter with its canary answers; a half-written one is written again.

        Raises:
            SnapshotError: The weights are not finite.
        """
        model = self.package.model.with_adapter(state)
        self._check_finite(state, f"version {version}")
        canary = self._canary_answers(model, f"version {version}")
        header = json.dumps({"package": self.package.tag, "version": version, "phase": phase})
        blob = save({**state, "canary": canary}, metadata={"selfheal": header})
        tag, sha256 = self.tag(version, phase), hashlib.sha256(blob).hexdigest()
        labels = {"selfheal": "adapter", "phase": phase.value, "heal": str(heal)}
        metadata = {
            "version": version,
            "phase": phase.value,
            "heal": heal,
            "batch": batch,
            "reason": reason,
            "package": self.package.tag,
            "sha256": sha256,
            **(facts or {}),
        }
        with new_model(tag, labels=labels, metadata=metadata) as folder:
            (folder / ADAPTER).write_bytes(blob)
        return Snapshot(version, tag, phase, sha256, heal, batch, reason, time.time())

    def load(self, tag: str, sha256: str) -> SelfHealingModel:
        """The packaged model with a verified adapter: hash, shapes, finite, canary batch.

        Raises:
            SnapshotError: Anything about it is wrong; the message says what.
        """
        blob = self._read(tag)
        found = hashlib.sha256(blob).hexdigest()
        if found != sha256:
            raise SnapshotError(f"{tag}: hash {found[:12]}… is not {sha256[:12]}… as promoted")
        try:
            tensors = load(blob)
        except (SafetensorError, ValueError) as error:
            raise SnapshotError(f"{tag}: not readable: {error}") from error
        expected = tensors.pop("canary", None)
        if expected is None:
            raise SnapshotError(f"{tag}: has no canary answers")
        self._check_finite(tensors, tag)
        try:
            model = self.package.model.with_adapter(tensors)
        except RuntimeError as error:
            raise SnapshotError(f"{tag}: does not fit {self.package.tag}: {error}") from error
        model.requires_grad_(False)
        answers = self._canary_answers(model, tag)
        if expected.shape != answers.shape or not torch.allclose(
            answers, expected, atol=CANARY_TOLERANCE
        ):
            raise SnapshotError(f"{tag}: answers the canary batch otherwise than when it was made")
        return model

    def delete(self, tag: str) -> None:
        """Remove one snapshot from the model store."""
        delete_model(tag)

    def _read(self, tag: str) -> bytes:
        try:
            return Path(home_store().get(tag).path_of(ADAPTER)).read_bytes()
        except (bentoml.exceptions.BentoMLException, OSError) as error:
            raise SnapshotError(f"{tag}: cannot be read: {error}") from error

    def _canary_answers(self, model: SelfHealingModel, what: str) -> Tensor:
        with torch.no_grad():
            answers: Tensor = model(self.package.canary)
        if not bool(torch.isfinite(answers).all()):
            raise SnapshotError(f"{what}: the canary batch gets answers that are not finite")
        return answers

    @staticmethod
    def _check_finite(state: Mapping[str, Tensor], what: str) -> None:
        bad = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
        if bad:
            raise SnapshotError(f"{what}: weights are not finite: {', '.join(bad)}")
