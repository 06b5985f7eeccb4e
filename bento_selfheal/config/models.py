"""The models of a service that serves several, and the settings that each has of its own.

``SELFHEAL_MODELS=fraud,churn`` names them. A setting of one of them is ``SELFHEAL_FRAUD__NAME``, or
a line below ``[fraud]`` in ``selfheal.toml``; others it has in common with all models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import field_validator
from pydantic_settings import NoDecode

from bento_selfheal.config.feeds import FeedSettings
from bento_selfheal.config.groups import (
    AccessSettings,
    Group,
    HealingSettings,
    LabelSettings,
    ServingSettings,
    StoreSettings,
    Tuning,
)
from bento_selfheal.config.review import ReviewSettings
from bento_selfheal.config.segments import SegmentSettings
from bento_selfheal.config.sources import GROUP
from bento_selfheal.config.validation import split_list

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,38}[a-z0-9])?")
PATHS = {
    "docs", "docs.json", "healthz", "livez", "metrics", "readyz", "schema.json", "selfheal",
    "static_content", "status", "tuning", "config", "models",
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


KNOWN = {
    name
    for group in (
        ServingSettings, AccessSettings, LabelSettings, FeedSettings, ReviewSettings,
        SegmentSettings, StoreSettings, HealingSettings, Tuning,
    )
    for name in group.model_fields
}  # fmt: skip
"""Names of all settings that a model may have of its own, or the service."""


class ModelsSettings(Group):
    """Several models."""

    models: Annotated[tuple[str, ...], NoDecode] = ()
    """Names of several models that one service serves, separated by commas, each below a path and
    in a store of its own. See [Several models](scaling.md#several-models-in-one-service)."""

    @field_validator("models", mode="before")
    @classmethod
    def _names(cls, given: Any) -> Any:
        return checked_names(given)


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
        if name in PATHS or variable(name).lower() in KNOWN:
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


def model_variables(names: Iterable[str]) -> set[str]:
    """The variables that set something of one of the models, without ``SELFHEAL_``, in small
    letters."""
    settings = {*KNOWN, *(f"{GROUP}__{name}" for name in Tuning.model_fields)}
    return {f"{variable(name)}__{setting}".lower() for name in names for setting in settings}
