"""The models of a service that serves several, and the settings that each has of its own.

``SELFHEAL_MODELS=fraud,churn`` names them. A setting of one of them is ``SELFHEAL_FRAUD__NAME``, or
a line below ``[fraud]`` in ``selfheal.toml``; others it has in common with all models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic._internal._utils import deep_update

from bento_selfheal.config.groups import AccessSettings, Tuning, split_list
from bento_selfheal.config.sources import GROUP, PREFIX, EnvSource, into_groups
from bento_selfheal.config.validation import describe
from bento_selfheal.errors import SettingsError

if TYPE_CHECKING:
    from bento_selfheal.config.settings import Settings

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,38}[a-z0-9])?")
PATHS = {
    "docs", "docs.json", "healthz", "livez", "metrics", "readyz", "schema.json", "selfheal",
    "static_content", "status", "tuning", "config",
}  # fmt: skip
"""Paths of the service itself, and names of settings: no model can have one of them."""
SHARED = {
    *AccessSettings.model_fields.keys() - {
        "signing_key", "source_labels_per_minute", "token_labels_per_minute"
    },
    "models", "workers", "max_rows", "body_megabytes", "request_seconds", "access_log",
    "log_format", "base_image", "runner_nice",
}  # fmt: skip
"""Settings of the whole service, which no model has of its own."""


def checked_names(names: Any) -> Any:
    """The names of models, if each can be the first part of a path and of a variable.

    Raises:
        ValueError: One cannot, or two are alike.
    """
    names = split_list(names)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError("a list of names is needed, such as fraud,churn")
    for name in names:
        if not NAME.fullmatch(name) or "__" in name:
            raise ValueError(
                f"{name!r} is no name of a model: give 1 to 40 of a-z, 0-9, dots, dashes and "
                "single underscores, with a letter or digit at both ends"
            )
        if name in PATHS or variable(name).lower() in _settings():
            raise ValueError(f"{name!r} is a path or a setting of the service; take another name")
    if len({variable(name) for name in names}) < len(names):
        raise ValueError("two of the names are the same, or differ in dots, dashes and underscores")
    return tuple(names)


def variable(name: str) -> str:
    """A model's name as part of a variable.

    >>> variable("credit-risk.eu")
    'CREDIT_RISK_EU'
    """
    return re.sub(r"[.-]", "_", name).upper()


def names_or_none(given: Any) -> tuple[str, ...]:
    """Names of models as they are given; none where they are wrong, which validation tells."""
    try:
        return tuple(checked_names(given))
    except ValueError:
        return ()


def each_of(common: Settings, file: Mapping[str, Any], kind: type[Settings]) -> dict[str, Settings]:
    """The settings of every model by its name.

    Args:
        common: The settings of the service.
        file: What the settings file says.
        kind: The class of settings.

    Raises:
        SettingsError: A value does not fit, a setting is the whole service's, or two models would
            share a store.
    """
    each = {name: _one(name, common, file.get(name, {}), kind) for name in common.models}
    stores: dict[str, str] = {}
    for name, settings in each.items():
        store = settings.store_url or str(settings.state_dir)
        other = stores.setdefault(store, name) if store != str(Path()) else name
        if other != name:
            raise SettingsError(
                f"{other} and {name} have the same store; set SELFHEAL_{variable(name)}__STORE_URL "
                f"or SELFHEAL_{variable(name)}__STATE_DIR to one of its own"
            )
    return each


def _one(name: str, common: Settings, table: Any, kind: type[Settings]) -> Settings:
    if not isinstance(table, Mapping):
        raise SettingsError(f"{name}: a table of settings is needed")
    source = EnvSource(kind, env_prefix=f"{PREFIX}{variable(name)}__")
    given = deep_update(into_groups(table), source())
    if shared := sorted(SHARED & given.keys()):
        raise SettingsError(f"{name}.{shared[0]}: a setting of the whole service, not of one model")
    if common.store_url and not {"store_url", "state_dir"} & given.keys():
        raise SettingsError(
            f"store_url: each model needs a store of its own; set SELFHEAL_{variable(name)}"
            "__STORE_URL instead"
        )
    state = {} if common.state_dir == Path() else {"state_dir": common.state_dir / name}
    own = {"models": (), "model": f"{name}:latest", "store_url": "", **state, **given}
    try:
        found = kind(**own)
    except ValidationError as error:
        raise SettingsError(f"{name}: {describe(error)}") from None
    found.name_as(name)
    return found


def model_variables(names: Iterable[str]) -> set[str]:
    """The variables that set something of one of the models, without ``SELFHEAL_``, in small
    letters."""
    settings = {*_settings(), *(f"{GROUP}__{name}" for name in Tuning.model_fields)}
    return {f"{variable(name)}__{setting}".lower() for name in names for setting in settings}


def _settings() -> set[str]:
    from bento_selfheal.config.settings import Settings

    return {*Settings.model_fields, *Tuning.model_fields}
