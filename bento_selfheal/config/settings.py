"""Settings: one place, validated, each with its meaning.

`Settings` holds what a running service needs. The environment variables ``SELFHEAL_<NAME>`` come
before ``selfheal.toml``, and both before the defaults. Its group `tuning` is for experts:
``SELFHEAL_TUNING__<NAME>``, or a line below ``[tuning]``. `Thresholds` belong to operations: they
live in ``threshold_config.json`` and are read again while the service runs.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import click
import pydantic_settings
from pydantic import Field, PrivateAttr, ValidationError, model_validator
from pydantic._internal._utils import deep_update
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bento_selfheal.config.feeds import FeedSettings
from bento_selfheal.config.groups import (
    AccessSettings,
    HealingSettings,
    LabelSettings,
    ServingSettings,
    StoreSettings,
    Tuning,
)
from bento_selfheal.config.models import (
    SHARED,
    ModelsSettings,
    checked_names,
    model_variables,
    names_or_none,
    variable,
)
from bento_selfheal.config.review import ReviewSettings
from bento_selfheal.config.segments import SegmentSettings
from bento_selfheal.config.sources import (
    GROUP,
    PREFIX,
    EnvSource,
    TomlSource,
    check_names,
    into_groups,
)
from bento_selfheal.config.validation import cut, describe
from bento_selfheal.config.webhooks.webhook import WebhookSettings
from bento_selfheal.errors import SettingsError

FILE = "selfheal.toml"
CONFIG = "SELFHEAL_CONFIG"
"""Variable that names another file."""


class Settings(
    BaseSettings,
    ServingSettings,
    AccessSettings,
    LabelSettings,
    FeedSettings,
    ReviewSettings,
    SegmentSettings,
    WebhookSettings,
    StoreSettings,
    HealingSettings,
    ModelsSettings,
):
    """Everything a running service needs. Frozen while it runs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    tuning: Tuning = Field(default_factory=Tuning)
    """Expert settings: `SELFHEAL_TUNING__NAME`, or `name = value` below `[tuning]`."""

    _name: str = PrivateAttr("")
    _each: dict[str, Settings] = PrivateAttr(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the model in a service of several; empty where it is the only one."""
        return self._name

    @property
    def each(self) -> dict[str, Settings]:
        """The settings of every model by its name; these, without a name, where it is one."""
        return self._each or {"": self}

    def name_as(self, name: str) -> None:
        """Let these be the settings of one of several models."""
        self._name = name

    def with_each(self, each: Mapping[str, Settings]) -> Self:
        """The settings of a service with several models; `model` is the first of them."""
        found = self.model_copy(update={"model": next(iter(each.values())).model})
        found._each = dict(each)
        return found

    @model_validator(mode="before")
    @classmethod
    def _into_groups(cls, given: Any) -> Any:
        return into_groups(given) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _one_way_to_label(self) -> Self:
        if self.unreported is not None and self.review != "all":
            raise ValueError(
                f"unreported cannot stand beside review={self.review!r}: rows that are not looked "
                "at would count as if nobody had reported them"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments come before variables, and variables before the file."""
        toml = TomlSource(settings_cls, toml_file=os.environ.get(CONFIG, FILE))
        toml.others = names_or_none(_raw_names(toml.toml_data))
        return init_settings, EnvSource(settings_cls), toml

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with changes; the settings of the group may be named by themselves.

        Raises:
            SettingsError: There is no such setting.
        """
        changes = into_groups({GROUP: {}, **(update or {})})
        tuning = changes.pop(GROUP)
        if not isinstance(tuning, Tuning):
            tuning = self.tuning.model_copy(update=tuning)
        unknown = sorted(changes.keys() - type(self).model_fields.keys())
        if unknown:
            raise SettingsError(f"there is no setting {', '.join(unknown)}")
        return super().model_copy(update={**changes, GROUP: tuning}, deep=deep)

    def by_name(self) -> dict[str, Any]:
        """Every setting by its name, those of the group beside the others, as JSON holds them."""
        flat = self.model_dump(mode="json")
        tuning = flat.pop(GROUP)
        return {**flat, **tuning}


class StartError(SettingsError, click.ClickException):
    """A setting is wrong where a service starts: `bentoml serve` shows it as one line."""


def load_settings() -> Settings:
    """Read the settings from the environment and the file.

    Raises:
        SettingsError: A name is unknown or a value does not fit; each is named.
    """
    try:
        return _load()
    except ValidationError as error:
        raise StartError(describe(error)) from None
    except (SettingsError, pydantic_settings.SettingsError) as error:
        raise StartError(str(error)) from None
    except (ValueError, RecursionError, OSError) as error:  # TOML that is none, or is absurd
        raise StartError(f"{os.environ.get(CONFIG) or FILE}: {cut(str(error))}") from None


def load_model_settings() -> Settings:
    """The settings of the one model that a command is about.

    Raises:
        SettingsError: As of `load_settings`, or there are several and none is named.
    """
    settings = load_settings()
    if settings.models:
        raise SettingsError(
            f"models: this service has {', '.join(settings.models)}; say which one is meant, such "
            f"as SELFHEAL_MODEL={settings.models[0]}"
        )
    return settings


def _load() -> Settings:
    toml = _file()
    try:
        names = checked_names(_raw_names(toml))
    except ValueError as error:
        raise SettingsError(f"models: {error}") from None
    check_names(Settings.model_fields, model_variables(names))
    common = Settings()
    if not common.models:
        return common
    each = _each_of(common, toml)
    if "model" not in common.model_fields_set:
        return common.with_each(each)
    if common.model not in each:
        raise SettingsError(
            f"model: {cut(repr(common.model))} is none of the models {', '.join(each)}; leave it "
            "out to serve all of them, or name one to serve that alone"
        )
    return each[common.model]


def _each_of(common: Settings, file: Mapping[str, Any]) -> dict[str, Settings]:
    """The settings of every model by its name.

    Args:
        common: The settings of the service.
        file: What the settings file says.

    Raises:
        SettingsError: A value does not fit, a setting is the whole service's, or two models would
            share a store.
    """
    each = {name: _one(name, common, file.get(name, {})) for name in common.models}
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


def _one(name: str, common: Settings, table: Any) -> Settings:
    if not isinstance(table, Mapping):
        raise SettingsError(f"{name}: a table of settings is needed")
    source = EnvSource(Settings, env_prefix=f"{PREFIX}{variable(name)}__")
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
        found = Settings(**own)
    except ValidationError as error:
        raise SettingsError(f"{name}: {describe(error)}") from None
    found.name_as(name)
    return found


def _file() -> dict[str, Any]:
    """What the file says; empty where there is none."""
    named = os.environ.get(CONFIG)
    if named and not Path(named).is_file():
        raise SettingsError(f"{CONFIG}: there is no file {named}")
    file = Path(named or FILE)
    return tomllib.loads(file.read_text()) if file.is_file() else {}


def _raw_names(file: Mapping[str, Any]) -> Any:
    """Names of the models of a service with several, as they are given."""
    variable = os.environ.get(f"{PREFIX}MODELS")
    return file.get("models", ()) if variable is None else variable
