"""Commands that ask a running service, over HTTP: where it stands, and what an operator wants."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic_core import to_jsonable_python
from rich.console import Console

from bento_selfheal.cli.app import app

Url = Annotated[
    str, typer.Option(help="Where the service is.", envvar="BENTO_SELFHEAL_URL", metavar="URL")
]
Token = Annotated[
    str | None,
    typer.Option(
        help="Bearer token; better in the variable, for others see what is typed.",
        envvar="BENTO_SELFHEAL_TOKEN", metavar="TOKEN", show_default=False,
    ),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="JSON, as the service gives it.")]
Last = Annotated[int, typer.Option(min=1, help="How many to show: the newest, newest last.")]
RETRY_SECONDS = 5.0
LOCAL = "http://127.0.0.1:3000"
PAGE = 1000
"""Entries to ask for at once."""


@app.command()
def status(
    url: Url = LOCAL,
    token: Token = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Exit code 1 when the runner is dead or a retrain is due."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Where the service stands: state, signals, accuracy, lift, what serves."""
    from bento_selfheal.cli.output import print_status
    from bento_selfheal.client.client import Client

    with Client(url, token=token, retry_seconds=RETRY_SECONDS) as client:
        found = client.status()
    _show(found, as_json, print_status)
    if check and (found.get("retrain") or not found.get("runner_alive")):
        raise typer.Exit(1)


@app.command()
def snapshots(url: Url = LOCAL, token: Token = None, as_json: AsJson = False) -> None:
    """Snapshots in the model store: figures, what serves, what a rollback would restore."""
    from bento_selfheal.cli.output import print_snapshots
    from bento_selfheal.client.client import Client

    with Client(url, token=token, retry_seconds=RETRY_SECONDS) as client:
        _show(client.snapshots(), as_json, print_snapshots)


@app.command()
def promotions(
    url: Url = LOCAL, token: Token = None, last: Last = 20, as_json: AsJson = False
) -> None:
    """What served when, why, and who said so."""
    from bento_selfheal.cli.output import print_promotions
    from bento_selfheal.client.client import Client

    with Client(url, token=token, retry_seconds=RETRY_SECONDS) as client:
        _show(_newest(client.promotions, last), as_json, print_promotions)


@app.command()
def events(url: Url = LOCAL, token: Token = None, last: Last = 20, as_json: AsJson = False) -> None:
    """What happened: heals, promotions, rollbacks, refusals, commands."""
    from bento_selfheal.cli.output import print_events
    from bento_selfheal.client.client import Client

    with Client(url, token=token, retry_seconds=RETRY_SECONDS) as client:
        _show(_newest(client.events, last), as_json, print_events)


@app.command()
def rollback(
    version: Annotated[
        int | None, typer.Argument(min=1, help="A snapshot; the best one when not given.")
    ] = None,
    url: Url = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Serve an older snapshot; works with the runner dead."""
    from bento_selfheal.client.client import Client

    with Client(url, token=token, retry_seconds=RETRY_SECONDS) as client:
        done = client.rollback(version)
    _show(done, as_json, lambda p, console: console.print(f"snapshot {p['version']} serves"))


@app.command()
def heal(url: Url = LOCAL, token: Token = None, as_json: AsJson = False) -> None:
    """Heal once on the labels that are there, whatever the signals say."""
    _command("heal", url, token, as_json)


@app.command()
def pause(url: Url = LOCAL, token: Token = None, as_json: AsJson = False) -> None:
    """Stop heals, promotions and rollbacks; signals and figures go on."""
    _command("pause", url, token, as_json)


@app.command()
def observe(url: Url = LOCAL, token: Token = None, as_json: AsJson = False) -> None:
    """Heal, but promote nothing."""
    _command("observe", url, token, as_json)


@app.command()
def resume(url: Url = LOCAL, token: Token = None, as_json: AsJson = False) -> None:
    """Take healing and promotions up again."""
    _command("resume", url, token, as_json)


@app.command()
def forget(
    source: Annotated[str, typer.Argument(help="As its feedback names it.")],
    url: Url = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Quarantine a source of feedback and remove what it taught."""
    from bento_selfheal.client.client import Client

    with Client(url, token=token, retry_seconds=RETRY_SECONDS) as client:
        asked = client.forget(source)
    _show(asked, as_json, lambda a, console: console.print(f"asked to forget {source}"))


def _command(kind: str, url: str, token: str | None, as_json: bool) -> None:
    from bento_selfheal.client.client import Client

    with Client(url, token=token, retry_seconds=RETRY_SECONDS) as client:
        asked = getattr(client, kind)()
    _show(asked, as_json, lambda a, console: console.print(f"asked: {kind} (command {a['seq']})"))


def _newest(read: Callable[..., list[Any]], count: int) -> list[Any]:
    """The newest entries of a log, oldest first, read in pages from its end."""
    found: list[Any] = []
    while len(found) < count:
        before = found[0].seq if found else None
        page = read(limit=min(count - len(found), PAGE), before=before)
        if not page:
            break
        found = page + found
    return found


def _show(found: Any, as_json: bool, show: Callable[[Any, Console], None]) -> None:
    plain = to_jsonable_python(found)
    if as_json:
        typer.echo(json.dumps(plain))
    else:
        show(plain, Console())
