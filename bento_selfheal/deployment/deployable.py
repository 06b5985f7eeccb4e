"""What keeps a model from being deployed; nothing is written to find out."""

from __future__ import annotations

from bento_selfheal.config.settings import Settings
from bento_selfheal.deployment.locations import exact_tag, open_store
from bento_selfheal.packaging.opening import find_device, open_package
from bento_selfheal.segments.definition import segments_of


def check_settings(settings: Settings) -> None:
    """Refuse what the model cannot have where the service starts, and not in the runner.

    Raises:
        SettingsError: There is no such device, no such column, or too many segments.
    """
    find_device(settings.device)
    if settings.segments:
        info = open_package(exact_tag(settings)).info
        segments_of(settings.segments, info.features, info.columns, info.hidden_columns)


def check_deployed(settings: Settings) -> None:
    """Say why a model was not deployed; for a process that only reads its store.

    Raises:
        SettingsError: As of `check_settings`.
        NewerRelease: A newer release made the store.
        StoreError: The store cannot be read.
        PackageError: No package was deployed, for that of the settings is damaged.
        bentoml.exceptions.NotFound: There is no such package.
    """
    check_settings(settings)
    store = open_store(settings)
    try:
        store.refuse_newer()
        deployed = store.meta("package")
    finally:
        store.close()
    if deployed is None:
        open_package(exact_tag(settings), settings.device)
