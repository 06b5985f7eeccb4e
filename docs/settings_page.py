"""Write docs/settings.md from the settings' own docstrings: `make docs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from bento_selfheal.config.parameters import HealParameters
from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds

PAGE = Path(__file__).parent / "settings.md"
HEAD = """# Every setting

Written by `make docs` from the docstrings in `bento_selfheal/config/`. A setting is an
environment variable `SELFHEAL_NAME`, or a line `name = value` in `selfheal.toml` (another file by
`SELFHEAL_CONFIG`); the variable wins. An unknown name and a wrong value are refused at the start,
by name.
"""
THRESHOLDS = """Operations' own, in `threshold_config.json` in the state folder, apart from the
model. An edit is in force within a second while the service runs; a bad one is refused in the log
and the values before it stay.
"""


def settings_page() -> str:
    """The page as it should be."""
    heal = set(HealParameters.model_fields)
    service = [name for name in Settings.model_fields if name not in heal]
    return "\n".join(
        [
            HEAD,
            "## The service\n",
            *_table(Settings, service, "SELFHEAL_"),
            "\n## How it watches and heals\n",
            *_table(Settings, [n for n in Settings.model_fields if n in heal], "SELFHEAL_"),
            "\n## Thresholds\n",
            THRESHOLDS,
            *_table(Thresholds, list(Thresholds.model_fields), ""),
            "",
        ]
    )


def _table(model: type[BaseModel], names: list[str], prefix: str) -> list[str]:
    rows = ["| setting | default | what it is |", "|---|---|---|"]
    for name in names:
        field = model.model_fields[name]
        shown = prefix + (name.upper() if prefix else name)
        about = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{shown}` | {_default(field.default)} | {about} |")
    return rows


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return ""
    if value is None or value in ("", Path(), SecretStr("")):
        return "none"
    return f"`{value}`".lower() if isinstance(value, bool) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(settings_page())
