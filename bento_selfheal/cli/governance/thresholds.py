"""The command that shows and changes the thresholds of a running service."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from pydantic_core import to_jsonable_python
from rich.console import Console

from bento_selfheal.cli.app import AsJson, app
from bento_selfheal.cli.operate import LOCAL, Token, Url, service
from bento_selfheal.cli.terminal import say
from bento_selfheal.errors import SettingsError


@app.command()
def thresholds(
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A new value; null for none. Repeatable."),
    ] = None,
    url: Url = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Show the thresholds in force, or change some of them; the audit keeps who did."""
    changes = dict(map(_change, change or []))
    with service(url, token) as client:
        if not changes:
            found = client.status()["thresholds"]
        else:
            found = to_jsonable_python(client.thresholds(**changes))
    if as_json:
        typer.echo(json.dumps(found))
    elif changes:
        say(Console(), f"requested: thresholds (command {found['seq']})")
    else:
        say(Console(), "\n".join(f"{name} {json.dumps(value)}" for name, value in found.items()))


def _change(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        return name.strip(), json.loads(value)
    except json.JSONDecodeError:
        wrong = "a number or null is needed" if equals else "write NAME=VALUE"
        raise SettingsError(f"--set: {text!r}: {wrong}") from None
