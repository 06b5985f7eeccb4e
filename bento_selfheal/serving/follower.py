"""Keeps a worker at the newest promotion: fetch, verify, load beside the old one, swap."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, replace

import bentoml

from bento_selfheal.core.candidates.share import in_share
from bento_selfheal.core.decision import serving_point
from bento_selfheal.core.ids import KEY_HASH_BYTES
from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.core.records import (
    Event,
    OperatingPoint,
    PointKind,
    Promotion,
    PromotionKind,
)
from bento_selfheal.errors import PackageError, SnapshotError, StoreError
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.adapters import Registry
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.store import SqlStore
from bento_selfheal.telemetry import names
from bento_selfheal.telemetry.spans import Telemetry

RETRY_SECONDS = 1.0
"""Longest pause after a poll that failed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Champion:
    """What a worker answers with: one value, swapped whole, that an answer reads once."""

    version: int
    tag: str
    model: SelfHealingModel
    since: float
    """When this worker began to serve it, in seconds since the epoch."""
    threshold: float = 0.5
    """The decision threshold that belongs to this model."""
    verified: bool = True
    """False while the threshold is held without any label to confirm it."""
    share: float = 1.0
    """Share of the requests that it answers; below 1 where it is a canary."""

    def at(self, point: OperatingPoint) -> Champion:
        """The same model at an operating point."""
        verified = point.kind is not PointKind.UNVERIFIED
        if (point.threshold, verified) == (self.threshold, self.verified):
            return self
        return replace(self, threshold=point.threshold, verified=verified)

    def takes(self, keys: bytes) -> bool:
        """Whether it answers a request, as a canary: always those of the same keys, and more of
        them as its share grows.

        Args:
            keys: The hashes of the rows' own keys, of which the first decides; without any, each
                request is drawn for itself.
        """
        name = keys[:KEY_HASH_BYTES] or os.urandom(KEY_HASH_BYTES)
        return in_share(name, self.share, self.version)


class Follower:
    """Keeps a worker's champion at the newest promotion that verifies.

    Args:
        store: Holds the promotion log.
        registry: Loads snapshots.
        interval: Seconds between two polls.
        telemetry: Records spans.

    Attributes:
        champion: What the worker answers with now.
        canary: What answers a share of the requests before it; None while there is none.
        thread: Polls the promotion log; to be started and stopped.

    Raises:
        SnapshotError: Nothing in the promotion log verifies.
    """

    def __init__(
        self, store: SqlStore, registry: Registry, *, interval: float, telemetry: Telemetry
    ) -> None:
        self._store = store
        self._registry = registry
        self._telemetry = telemetry
        self._seen = self._seen_canary = 0
        self.canary: Champion | None = None
        self.champion = self._first()
        self.thread = PeriodicThread(
            "selfheal-follow", self.poll, interval, longest_retry=RETRY_SECONDS
        )

    def poll(self) -> None:
        """Poll the promotion log once.

        A promotion whose adapter does not verify is refused: the model that served before stays,
        with the threshold that belongs to it.

        Raises:
            StoreError: The store cannot be read; the next poll tries again.
        """
        promotion, moved, canary = self._store.serving_state()
        if promotion is None:
            return
        point = serving_point(promotion, moved)
        if promotion.version == self.champion.version:
            self.champion = self.champion.at(point)
        elif self.canary is not None and promotion.version == self.canary.version:
            self.champion = replace(self.canary, share=1.0, since=time.time()).at(point)
        elif promotion.seq != self._seen:
            if promotion.kind is PromotionKind.INITIAL:
                self._take_over()
            try:
                self.champion = self._load(promotion, point)
            except SnapshotError as error:
                self._refuse(promotion, error)
        self._follow_canary(canary)
        # Last: if the store goes away in between, the next poll tries again.
        self._seen = promotion.seq

    def _follow_canary(self, promotion: Promotion | None) -> None:
        """Let a canary answer its share; what serves answers it where the canary is refused."""
        if promotion is None:
            self.canary = None
            return
        if self.canary is None or self.canary.version != promotion.version:
            if promotion.seq == self._seen_canary:
                return  # it was refused
            self.canary = None
            try:
                loaded = self._load(promotion, promotion.operating_point or OperatingPoint())
            except SnapshotError as error:
                self._refuse(promotion, error)
            else:
                self.canary = replace(loaded, share=promotion.share)
        elif promotion.seq != self._seen_canary:
            moved = self.canary.at(promotion.operating_point or OperatingPoint())
            self.canary = replace(moved, share=promotion.share)
        self._seen_canary = promotion.seq

    def load(self, tag: str, sha256: str) -> SelfHealingModel:
        """A snapshot of the package that serves.

        Raises:
            SnapshotError: It does not verify.
        """
        return self._registry.load(tag, sha256)

    def _take_over(self) -> None:
        """Verify against the package that was deployed, if it answers the same questions."""
        tag = self._store.meta("package")
        own = self._registry.package
        if tag is None or tag == own.tag:
            return
        try:
            package = open_package(tag, own.model.device)
        except (PackageError, bentoml.exceptions.NotFound) as error:
            log.error("cannot serve the deployed package %s: %s", tag, error)
            return
        if own.info.differs_in(package.info):
            log.error(
                "%s has other features, types or classes; restart the service to serve it", tag
            )
            return
        self._registry = self._registry.of(package)
        log.info("serving the newly deployed package %s", tag)

    def _first(self) -> Champion:
        """The newest promotion that verifies, or one before it."""
        newest, moved, canary = self._store.serving_state()
        reasons: list[str] = []
        for promotion in reversed(self._store.servable()):
            # An operating point moves only for what is served now.
            current = newest is not None and promotion.seq == newest.seq
            try:
                champion = self._load(
                    promotion, serving_point(promotion, moved if current else None)
                )
            except SnapshotError as error:
                self._refuse(promotion, error)
                reasons.append(str(error))
            else:
                self._seen = promotion.seq
                self._follow_canary(canary)
                return champion
        why = reasons[0] if reasons else "was the service deployed?"
        raise SnapshotError(f"no promotion in the log verifies; the newest one: {why}")

    def _load(self, promotion: Promotion, point: OperatingPoint) -> Champion:
        with self._telemetry.span(
            names.RELOAD, {names.VERSION: promotion.version}, [promotion.trace]
        ):
            model = self.load(promotion.tag, promotion.sha256)
            if self._store.shared:
                self._registry.prune({s.tag for s in self._store.snapshots()})
            log.info("serving snapshot %d (%s)", promotion.version, promotion.kind.value)
        return Champion(promotion.version, promotion.tag, model, time.time()).at(point)

    def _refuse(self, promotion: Promotion, error: SnapshotError) -> None:
        log.error("refused snapshot %d: %s", promotion.version, error)
        detail = {"version": promotion.version, "reason": str(error)}
        try:
            self._store.add_event(Event("refused", detail, time.time()))
        except StoreError:
            log.exception("cannot record that snapshot %d was refused", promotion.version)
