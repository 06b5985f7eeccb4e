"""Where settings come from: variables and a file, also under their names of earlier releases.

The settings in the group `tuning` used to stand beside the others. Their old names,
``SELFHEAL_HEAL_LR`` and ``heal_lr = …``, mean the same as ``SELFHEAL_TUNING__HEAL_LR`` and
``heal_lr = …`` below ``[tuning]``.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from bento_selfheal.config.groups import Tuning
from bento_selfheal.errors import SettingsError

PREFIX = "SELFHEAL_"
GROUP = "tuning"
NESTED = f"{GROUP}__"
CONFIG = "config"
"""``SELFHEAL_CONFIG`` names the file itself."""


def into_groups(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name with those of the group where they belong.

    >>> into_groups({"workers": 2, "heal_lr": 0.1, "tuning": {"alpha": 0.5}})
    {'workers': 2, 'tuning': {'alpha': 0.5, 'heal_lr': 0.1}}
    """
    flat = {name: value for name, value in given.items() if name in Tuning.model_fields}
    if not flat:
        return dict(given)
    rest = {name: value for name, value in given.items() if name not in flat}
    group = rest.get(GROUP, {})
    if isinstance(group, Tuning):
        group = group.model_dump()
    return {**rest, GROUP: {**group, **flat}}


class TomlSource(TomlConfigSettingsSource):
    """The file.

    Attributes:
        others: Names of tables that are about one model each.
    """

    others: tuple[str, ...] = ()

    def __call__(self) -> dict[str, Any]:
        """What it says, by group."""
        found = {k: v for k, v in super().__call__().items() if k not in self.others}
        _refuse_twice({*found} & {*Tuning.model_fields}, found.get(GROUP), "", f"[{GROUP}] ")
        return into_groups(found)


class EnvSource(EnvSettingsSource):
    """The variables."""

    def __call__(self) -> dict[str, Any]:
        """What they say, by group."""
        found = super().__call__()
        old = {
            name: self.env_vars[key]
            for name in Tuning.model_fields
            if (key := f"{self.env_prefix}{name}".lower()) in self.env_vars
        }
        before = self.env_prefix
        _refuse_twice(old, found.get(GROUP), before, f"{before}{NESTED}".upper())
        return into_groups({**found, **old})


def _refuse_twice(old: Iterable[str], group: Any, before: str, after: str) -> None:
    """Refuse a setting that is given under both of its names."""
    for name in sorted(old):
        if isinstance(group, Mapping) and name in group:
            shown = name.upper() if before else name
            raise SettingsError(
                f"{GROUP}.{name}: set twice, as {before}{shown} and as {after}{shown}; keep one"
            )


def check_names(known: Iterable[str], of_models: Iterable[str] = ()) -> None:
    """See whether every variable ``SELFHEAL_…`` is a setting.

    Args:
        known: Names of the settings outside the group, in small letters.
        of_models: Names of the settings of one model each, in small letters.

    Raises:
        SettingsError: One is not; the message names the setting that is spelled most like it.
    """
    names = {*known, CONFIG, *Tuning.model_fields, *(NESTED + n for n in Tuning.model_fields)}
    names |= set(of_models)
    given = (name for name in os.environ if name.startswith(PREFIX))
    unknown = sorted(name for name in given if name.removeprefix(PREFIX).lower() not in names)
    if unknown:
        near = difflib.get_close_matches(unknown[0], [f"{PREFIX}{n.upper()}" for n in names], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"unknown environment variables: {', '.join(unknown)}{hint}")
