"""Notes in the audit what a command has done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

from bento_selfheal.cli.terminal import say
from bento_selfheal.errors import StoreError

if TYPE_CHECKING:
    from bento_selfheal.config.settings import Settings


def note(settings: Settings, act: str, detail: dict[str, Any]) -> None:
    """Note an act, or say that it could not be: it is done already."""
    from bento_selfheal.deployment.acts import note_act

    try:
        note_act(settings, act, detail)
    except StoreError as error:
        say(Console(stderr=True), f"not in the audit: {error}", "bold")
