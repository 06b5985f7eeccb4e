"""Workers follow the promotion log: fetch, verify, load beside the old one, swap."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass

import bentoml

from bento_selfheal.core.records import Event, OperatingPoint, Promotion, PromotionKind
from bento_selfheal.errors import PackageError, SnapshotError, StoreError
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.adapters import Registry
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.store import SqlStore
from bento_selfheal.telemetry import names as names
from bento_selfheal.telemetry.spans import Telemetry

DEFAULT_POINT = OperatingPoint()
RETRY_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Champion:
    """What a worker answers with: one reference, swapped whole."""

    version: int
    tag: str
    model: SelfHealingModel
    since: float


class Follower:
    """Keeps a worker's champion at the newest promotion that verifies.

    Args:
        store: Where the promotion log is.
        registry: Where the snapshots are.
        interval: Seconds between two looks.
        telemetry: Where spans go.

    Raises:
        SnapshotError: Nothing in the promotion log verifies.
    """

    def __init__(
        self, store: SqlStore, registry: Registry, *, interval: float, telemetry: Telemetry
    ) -> None:
        self._store = store
        self._registry = registry
        self._interval = interval
        self._telemetry = telemetry
        self._stop = threading.Event()
        self._seen = 0
        self.threshold, self.verified = DEFAULT_POINT.threshold, True
        self.champion = self._first()
        self._thread = threading.Thread(target=self._follow, name="selfheal-follow", daemon=True)

    def start(self) -> None:
        """Follow from now on, in a thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread that follows still runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join(timeout=5)

    def look(self) -> None:
        """Look once; a promotion that does not verify is refused and the old one serves on."""
        promotion, point = self._store.serving_state()
        self._follow_point(point)
        if promotion is None or promotion.seq == self._seen:
            return
        if promotion.kind is PromotionKind.INITIAL:
            self._take_over()
        if promotion.version != self.champion.version:
            try:
                self.champion = self._load(promotion)
            except SnapshotError as error:
                self._refuse(promotion, error)
        # Last: where the store went away in between, the next look tries again.
        self._seen = promotion.seq

    def _follow_point(self, told: str | None) -> None:
        """Follow the operating point that the runner has put in force."""
        if told is not None:
            point = json.loads(told)
            self.threshold, self.verified = point["threshold"], point["verified"]

    def _take_over(self) -> None:
        """Another package was deployed: verify against it, if it answers the same questions."""
        tag = self._store.meta("package")
        own = self._registry.package
        if tag is None or tag == own.tag:
            return
        try:
            package = open_package(tag, own.model.device)
        except (PackageError, bentoml.exceptions.NotFound) as error:
            log.error("cannot take over %s: %s", tag, error)
            return
        if (package.info.features, package.info.classes) != (own.info.features, own.info.classes):
            log.error("%s has other features or classes; restart the service to serve it", tag)
            return
        self._registry = self._registry.of(package)
        log.info("%s takes over", tag)

    def _first(self) -> Champion:
        """The newest promotion that verifies, or one before it."""
        reasons: list[str] = []
        for promotion in reversed(self._store.servable()):
            try:
                champion = self._load(promotion)
            except SnapshotError as error:
                self._refuse(promotion, error)
                reasons.append(str(error))
            else:
                self._seen = promotion.seq
                return champion
        why = reasons[0] if reasons else "was the service deployed?"
        raise SnapshotError(f"no promotion in the log verifies; the newest one: {why}")

    def _load(self, promotion: Promotion) -> Champion:
        with self._telemetry.span(
            names.RELOAD, {names.VERSION: promotion.version}, [promotion.trace]
        ):
            model = self._registry.load(promotion.tag, promotion.sha256)
            if self._store.shared:
                self._registry.prune({s.tag for s in self._store.snapshots()})
            log.info("serving snapshot %d (%s)", promotion.version, promotion.kind.value)
        return Champion(promotion.version, promotion.tag, model, time.time())

    def _refuse(self, promotion: Promotion, error: SnapshotError) -> None:
        log.error("refused snapshot %d: %s", promotion.version, error)
        detail = {"version": promotion.version, "reason": str(error)}
        try:
            self._store.add_event(Event("refused", detail, time.time()))
        except StoreError:
            log.exception("could not note the refusal")

    def _follow(self) -> None:
        pause = self._interval
        while not self._stop.wait(pause):
            try:
                self.look()
                pause = self._interval
            except StoreError as error:
                log.warning("cannot follow the promotion log: %s", error)
                pause = RETRY_SECONDS
            except Exception:
                # A worker that follows no more would serve an old adapter for good.
                log.exception("cannot follow the promotion log")
                pause = RETRY_SECONDS
