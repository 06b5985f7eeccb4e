"""Snapshots: adapters in the BentoML model store, verified before they may serve."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from bentoml.exceptions import BentoMLException
from filelock import Timeout
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from bento_selfheal.core.class_probabilities import normalised
from bento_selfheal.core.records import NewSnapshot, Phase, Snapshot
from bento_selfheal.core.tensors import not_finite, to_bytes
from bento_selfheal.errors import SnapshotError
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.model_store import (
    delete_model,
    home_store,
    model_folder,
    new_model,
)
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.pruning import adapters_lock, adapters_name, prune

log = logging.getLogger(__name__)

ADAPTER = "adapter.safetensors"
SIGNATURE = "signature"
"""In a snapshot's metadata: HMAC-SHA256 of the adapter's bytes, in hexadecimal."""
CANARY_TOLERANCE = 1e-4
"""How far answers may differ between machines or devices: float32 sums depend on the order."""


class AdapterStore(Protocol):
    """Adapters by their hash, where every replica reaches them; the shared store is one."""

    def keep_adapter(self, sha256: str, blob: bytes, signature: str) -> None:
        """Keep an adapter's bytes and their signature under their hash."""

    def adapter(self, sha256: str) -> tuple[bytes, str] | None:
        """The bytes and the signature under a hash; None where it is not known."""


class Registry:
    """The snapshots of one packaged model in one store.

    All lie under one name, ``<package>-adapter``; the promotion log says which of them serves.
    Only the leading runner writes here, so no two versions are made at the same time.

    Where each replica has a model store of its own, the adapters' bytes also lie in a store that
    all of them reach, and each replica copies what it needs into its own.

    Args:
        package: The packaged model that the adapters belong to.
        store_id: The store's own id, which keeps two stores' snapshots apart.
        adapters: Where replicas find each other's adapters; None where they share a model store.
        key: Signs what is saved, and what is loaded must be signed with it; empty for neither.
    """

    def __init__(
        self,
        package: Package,
        store_id: str,
        adapters: AdapterStore | None = None,
        key: bytes = b"",
    ) -> None:
        self.package = package
        self._store_id = store_id
        self._adapters = adapters
        self._key = key
        self._repeated = "", b""

    def of(self, package: Package) -> Registry:
        """The snapshots of another package in the same store."""
        return Registry(package, self._store_id, self._adapters, self._key)

    def tag(self, version: int, phase: Phase) -> str:
        """Where a snapshot lies in the model store."""
        return f"{self.tag_name}:{self._store_id}-{version:06d}-{phase.value}"

    @property
    def tag_name(self) -> str:
        """The one name of all snapshots of this package."""
        return adapters_name(self.package.name)

    def save(self, new: NewSnapshot, state: Mapping[str, Tensor]) -> Snapshot:
        """Write an adapter with its canary answers; a half-written one is written again.

        Raises:
            SnapshotError: The weights are not finite.
        """
        what = f"version {new.version}"
        model = self.package.with_adapter(state)
        self._check_finite(state, what)
        canary = self._canary_answers(model, what)
        known = {"package": self.package.tag, "version": new.version, "phase": new.phase}
        blob = to_bytes({**state, "canary": canary}, metadata={"selfheal": json.dumps(known)})
        return self._keep(new, blob, hashlib.sha256(blob).hexdigest())

    def repeat(self, new: NewSnapshot, snapshot: Snapshot) -> Snapshot:
        """Write a snapshot's adapter once more, under another version.

        Raises:
            SnapshotError: Its bytes are not there any more, or not what they were.
        """
        if self._repeated[0] != snapshot.sha256:
            self._repeated = snapshot.sha256, self._fetch(snapshot.tag, snapshot.sha256)
        sha256, blob = self._repeated
        return self._keep(new, blob, sha256)

    def _keep(self, new: NewSnapshot, blob: bytes, sha256: str) -> Snapshot:
        tag = self.tag(new.version, new.phase)
        self._write(tag, blob, *self._facts(new, blob, sha256))
        if self._adapters is not None:
            self._adapters.keep_adapter(sha256, blob, self._signed(blob))
        return new.kept(tag, sha256)

    def _facts(
        self, new: NewSnapshot, blob: bytes, sha256: str
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """Labels and metadata of a snapshot in the model store."""
        phase = new.phase.value
        return {"selfheal": "adapter", "phase": phase, "heal": str(new.heal)}, {
            "version": new.version,
            "phase": phase,
            "heal": new.heal,
            "batch": new.batch,
            "reason": new.reason,
            "package": self.package.tag,
            "sha256": sha256,
            SIGNATURE: self._signed(blob),
            **new.facts,
        }

    def load(self, tag: str, sha256: str) -> SelfHealingModel:
        """The packaged model with a verified adapter: hash, signature, shapes, finite, canary.

        Raises:
            SnapshotError: Anything about it is wrong; the message says what.
        """
        blob = self._fetch(tag, sha256)
        try:
            tensors = load(blob)
        except (SafetensorError, ValueError) as error:
            raise SnapshotError(f"{tag}: not readable: {error}") from error
        expected = tensors.pop("canary", None)
        if expected is None:
            raise SnapshotError(f"{tag}: has no canary answers")
        self._check_finite(tensors, tag)
        try:
            model = self.package.with_adapter(tensors)
        except RuntimeError as error:
            raise SnapshotError(f"{tag}: does not fit {self.package.tag}: {error}") from error
        model.requires_grad_(False)
        answers = self._canary_answers(model, tag)
        if expected.ndim == 2:
            expected = normalised(expected)  # earlier releases kept them as the head gave them
        if expected.shape != answers.shape or not torch.allclose(
            answers, expected, atol=CANARY_TOLERANCE
        ):
            raise SnapshotError(
                f"{tag}: its answers to the canary batch differ from those it was saved with"
            )
        return model

    def sign(self, tag: str, sha256: str) -> None:
        """Sign an adapter that was made before there was this key.

        Raises:
            SnapshotError: It is not what was promoted.
        """
        shared = self._adapters.adapter(sha256) if self._adapters is not None else None
        blob = self._read(tag) if shared is None else shared[0]
        if problem := _mismatch(tag, blob, sha256):
            raise SnapshotError(problem)
        known = home_store().get(tag).info if model_folder(tag).exists() else None
        if known is not None:
            facts = {**known.metadata, SIGNATURE: self._signed(blob)}
            self._write(tag, blob, known.labels, facts)
        if self._adapters is not None:
            self._adapters.keep_adapter(sha256, blob, self._signed(blob))

    def delete(self, tag: str) -> None:
        """Remove one snapshot from the model store."""
        delete_model(tag)

    def prune(self, kept: set[str], void_before: float = 0.0) -> None:
        """Remove snapshots that are no longer kept: `pruning.prune`."""
        prune(self.tag_name, self._store_id, kept, void_before)

    def _fetch(self, tag: str, sha256: str) -> bytes:
        """The bytes with this hash: from the model store, else copied from the shared one."""
        try:
            blob = self._read(tag)
            signature = self._signature_of(tag)
            problem = _mismatch(tag, blob, sha256) or self._unsigned(tag, blob, signature)
        except SnapshotError as error:
            problem = str(error)
        if not problem:
            return blob
        shared = self._adapters.adapter(sha256) if self._adapters is not None else None
        if shared is None:
            raise SnapshotError(problem)
        blob, signature = shared
        if _mismatch(tag, blob, sha256):
            raise SnapshotError(problem)
        if unsigned := self._unsigned(tag, blob, signature):
            raise SnapshotError(unsigned)
        facts = {"package": self.package.tag, "sha256": sha256, SIGNATURE: signature}
        try:
            self._write(tag, blob, {"selfheal": "adapter"}, facts)
        except (OSError, Timeout) as error:
            log.warning("%s is used without a copy in the model store: %s", tag, error)
        return blob

    def _signed(self, blob: bytes) -> str:
        """The signature of an adapter's bytes; empty without a key."""
        return hmac.digest(self._key, blob, "sha256").hex() if self._key else ""

    def _unsigned(self, tag: str, blob: bytes, signature: str) -> str:
        """What is wrong with the signature of an adapter; empty when nothing is."""
        if hmac.compare_digest(signature.encode(), self._signed(blob).encode()) or not self._key:
            return ""
        if not signature:
            return f"{tag}: is not signed; if it was made before the key, run `bento-selfheal sign`"
        return f"{tag}: its signature was not made with the key in force"

    def _signature_of(self, tag: str) -> str:
        if not self._key:
            return ""
        try:
            return str(home_store().get(tag).info.metadata.get(SIGNATURE, ""))
        except (BentoMLException, OSError, ValueError) as error:
            raise SnapshotError(f"{tag}: its signature cannot be read: {error}") from error

    def _write(
        self, tag: str, blob: bytes, labels: Mapping[str, str], metadata: Mapping[str, Any]
    ) -> None:
        """Under a lock: BentoML does not support concurrent writers of one model name."""
        with (
            adapters_lock(self.tag_name),
            new_model(tag, labels=labels, metadata=metadata) as folder,
        ):
            (folder / ADAPTER).write_bytes(blob)

    def _read(self, tag: str) -> bytes:
        # By its path: BentoML would parse the model's YAML first, a millisecond of a worker's time.
        try:
            return (model_folder(tag) / ADAPTER).read_bytes()
        except OSError as error:
            raise SnapshotError(f"{tag}: cannot be read: {error}") from error

    def _canary_answers(self, model: SelfHealingModel, what: str) -> Tensor:
        with torch.no_grad():
            answers: Tensor = model(self.package.canary).cpu()
        if not bool(torch.isfinite(answers).all()):
            raise SnapshotError(f"{what}: its answers to the canary batch are not finite")
        return answers

    @staticmethod
    def _check_finite(state: Mapping[str, Tensor], what: str) -> None:
        if bad := not_finite(state):
            raise SnapshotError(f"{what}: weights are not finite: {', '.join(bad)}")


def _mismatch(tag: str, blob: bytes, sha256: str) -> str:
    """What is wrong with the bytes of an adapter; empty when they are those promoted."""
    found = hashlib.sha256(blob).hexdigest()
    return "" if found == sha256 else f"{tag}: hash {found[:12]}… is not {sha256[:12]}… as promoted"
