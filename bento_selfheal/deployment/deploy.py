"""Prepares the store before anything serves, and deploys a package into it."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.audit.entry import HOST
from bento_selfheal.core.models.current import about
from bento_selfheal.core.records import Event, NewSnapshot, Phase, Promotion, PromotionKind
from bento_selfheal.deployment.acts import user
from bento_selfheal.deployment.asked_for import note_asked_for, to_serve
from bento_selfheal.deployment.deployable import check_settings
from bento_selfheal.deployment.locations import open_store, registry_of, state_dir
from bento_selfheal.errors import PromotionMoved, SettingsError
from bento_selfheal.healing.pipeline import Pipeline
from bento_selfheal.image import STATE, goes_with_container
from bento_selfheal.packaging.model_store import bentoml_home
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.packaging.package import Package
from bento_selfheal.store import SqlStore
from bento_selfheal.telemetry.spans import Telemetry

log = logging.getLogger(__name__)


def prepare_each(settings: Settings) -> None:
    """`prepare` for every model of a service; what fails for one leaves the others.

    Raises:
        Exception: As of `prepare`, where no model could be prepared.
    """
    errors: list[Exception] = []
    for name, own in settings.each.items():
        try:
            with about(name):
                prepare(own)
        except Exception as error:
            errors.append(error)
            if name:
                log.error("the model %s cannot be deployed: %s", name, error)
    if len(errors) == len(settings.each):
        raise errors[0]


def prepare(settings: Settings) -> None:
    """Create or upgrade the store and deploy the packaged model. A second call changes nothing.

    If the settings ask for another package than before, it takes over: its clean adapter is
    promoted, and the runner begins anew after the rows logged so far. See `to_serve`.

    Raises:
        SettingsError: There is no such device, or no such segment.
        StoreError: The store is out of reach.
        bentoml.exceptions.NotFound: There is no such model.
    """
    check_settings(settings)
    _warn_of_loss(settings)
    store = open_store(settings)
    try:
        store.create()
        put_in_service(settings, store, to_serve(settings, store))
        note_asked_for(settings, store)
    finally:
        store.close()


def put_in_service(settings: Settings, store: SqlStore, tag: str) -> None:
    """Have a package, by its exact tag, serve from a store, unless it does so already.

    Raises:
        StoreError: The store is out of reach.
        PackageError: The package is damaged.
    """
    while (before := store.meta("package")) != tag:
        # On the CPU: nothing answers here, and this process would keep GPU memory for its life.
        try:
            version = _take_over(settings, store, open_package(tag), before)
        except PromotionMoved:
            continue  # a replica was quicker
        log.info("%s serves from snapshot %d, state in %s", tag, version, state_dir(settings))


def _warn_of_loss(settings: Settings) -> None:
    """Warn where state lies in the container itself and is lost when it is replaced."""
    if settings.store_url:
        return
    # Both hold a heal: the store says which snapshot serves, the model store has its weights.
    homes = {state_dir(settings), bentoml_home()}
    for home in homes:
        home.mkdir(parents=True, exist_ok=True)
    lost = sorted(str(home) for home in homes if goes_with_container(home))
    if lost:
        log.warning(
            "%s: not on a volume, so all heals are lost with this container; mount a volume at %s "
            "and set BENTOML_HOME=%s", ", ".join(lost), STATE, STATE,
        )  # fmt: skip


def _take_over(settings: Settings, store: SqlStore, package: Package, before: str | None) -> int:
    """Promote a package's clean adapter at the end of the logs; the version that it serves as."""
    # Only kept snapshots lie in the model store; a store may have seen any number of others.
    older, version = store.snapshots(), store.newest_version() + 1
    predictions_from, feedback_from, commands_from = store.ends()
    reason = f"{package.tag} was deployed"
    registry = registry_of(package, store, settings)
    clean = registry.save(
        NewSnapshot(version, Phase.CLEAN, heal=0, batch=0, reason=reason),
        package.model.adapter_state(),
    )
    now = time.time()
    initial = Promotion(
        PromotionKind.INITIAL, version, clean.tag, clean.sha256, reason, now, by=user()
    )
    detail = {"package": package.tag, "version": version, "by": initial.by}
    event = Event("deployed", detail, now)
    pipeline = Pipeline(package, settings, registry, thresholds=Thresholds(), telemetry=Telemetry())
    pipeline.adopt(initial)
    start = {
        "predictions_from": predictions_from,
        "feedback_from": feedback_from,
        "commands_from": commands_from,
        "next_version": version + 1,
    }
    store.take_over(
        clean, replace(initial, operating_point=pipeline.parts.policy.point), event,
        status=pipeline.status(),
        facts={"start": json.dumps(start), "package": package.tag},
        before=before,
    )  # fmt: skip
    # The adapters of another package can never serve from this store again.
    for snapshot in older:
        registry.delete(snapshot.tag)
    return version


def sign(settings: Settings) -> list[str]:
    """Sign every kept snapshot whose adapter is what was promoted.

    Returns:
        Their tags.

    Raises:
        SettingsError: No signing key is set.
        SnapshotError: A snapshot is damaged; those before it are signed.
    """
    if not settings.signing_key.get_secret_value():
        raise SettingsError("signing_key: no key to sign with; set SELFHEAL_SIGNING_KEY")
    store = open_store(settings)
    try:
        store.create()
        tag = store.meta("package")
        if tag is None:
            return []
        registry = registry_of(open_package(tag), store, settings)
        snapshots = store.snapshots()
        for snapshot in snapshots:
            registry.sign(snapshot.tag, snapshot.sha256)
        store.add_audit("sign", user(), HOST, {"snapshots": [s.version for s in snapshots]})
        return [snapshot.tag for snapshot in snapshots]
    finally:
        store.close()
