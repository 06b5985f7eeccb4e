"""Write docs/settings.md from the settings' own docstrings: `make docs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from bento_selfheal.config.feeds import FeedSettings
from bento_selfheal.config.groups import (
    AccessSettings,
    HealingSettings,
    LabelSettings,
    ServingSettings,
    StoreSettings,
    Tuning,
)
from bento_selfheal.config.models import ModelsSettings
from bento_selfheal.config.review import ReviewSettings
from bento_selfheal.config.segments import SegmentSettings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.config.webhooks.webhook import WebhookSettings

PAGE = Path(__file__).parent / "settings.md"
GROUPS = (
    ServingSettings,
    ModelsSettings,
    HealingSettings,
    LabelSettings,
    FeedSettings,
    ReviewSettings,
    SegmentSettings,
    WebhookSettings,
    StoreSettings,
    AccessSettings,
)
HEAD = """# Settings

`make docs` writes this page from the docstrings of the settings in `bento_selfheal/config/`.

Set a setting with the environment variable `SELFHEAL_NAME`, or with a line `name = value` in
`selfheal.toml` (`SELFHEAL_CONFIG` names another file). The variable takes precedence. The service
does not start with an unknown name or an invalid value; the message names it.
"""
THRESHOLDS = """Operational thresholds are stored in `threshold_config.json` in the state folder,
separate from the model. A change takes effect within a second while the service runs. An invalid
change is logged as an error, and the previous values stay in force.
"""
TUNING = """These settings are for experts; the benchmarks chose their defaults. Set one with the
environment variable `SELFHEAL_TUNING__NAME`, or with a line `name = value` below `[tuning]` in
`selfheal.toml`. The names of earlier releases, without `TUNING__` and above `[tuning]`, still work.
"""


def settings_page() -> str:
    """The page as it should be."""
    operators = [line for group in GROUPS for line in _section(group, "SELFHEAL_")]
    return "\n".join(
        [
            HEAD,
            *operators,
            "## Thresholds\n",
            THRESHOLDS,
            *_table(Thresholds, list(Thresholds.model_fields), ""),
            "\n## Tuning\n",
            TUNING,
            *_table(Tuning, list(Tuning.model_fields), "SELFHEAL_TUNING__"),
            "",
        ]
    )


def _section(group: type[BaseModel], prefix: str) -> list[str]:
    title = (group.__doc__ or "").strip().rstrip(".")
    return [f"## {title}\n", *_table(group, list(group.model_fields), prefix), ""]


def _table(model: type[BaseModel], names: list[str], prefix: str) -> list[str]:
    rows = ["| setting | default | description |", "|---|---|---|"]
    for name in names:
        field = model.model_fields[name]
        shown = prefix + (name.upper() if prefix else name)
        about = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{shown}` | {_default(field.default)} | {about} |")
    return rows


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return ""
    if value is None or value in ("", (), Path(), SecretStr("")):
        return "none"
    return f"`{value}`".lower() if isinstance(value, bool) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(settings_page())
