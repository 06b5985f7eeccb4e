"""Commands that call a running service over HTTP: its status, and what an operator changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import to_jsonable_python
from rich.console import Console

from bento_selfheal.cli.app import app
from bento_selfheal.cli.terminal import say
from bento_selfheal.errors import ServiceUnavailable

if TYPE_CHECKING:
    from bento_selfheal.client.client import Client

Url = Annotated[
    str, typer.Option(help="Address of the service.", envvar="BENTO_SELFHEAL_URL", metavar="URL")
]
Token = Annotated[
    str | None,
    typer.Option(
        help="Bearer token. Prefer the variable: other users can read a command line.",
        envvar="BENTO_SELFHEAL_TOKEN", metavar="TOKEN", show_default=False,
    ),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="Print the JSON that the service returns.")]
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
        typer.Option(
            "--check",
            help="Exit with code 1 if the runner is dead, behind or in trouble, a retrain is due, "
            "every row is given the same class, or labels come for one class only; of several "
            "models, if one of them needs attention.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of the service: signals, accuracy, lift and the snapshot that serves.

    Of a service with several models it lists them; --url URL/NAME shows one.
    """
    from bento_selfheal.cli.figures import print_models
    from bento_selfheal.cli.output import print_status

    with service(url, token) as client:
        found = client.status()
    if (models := found.get("models")) is not None:
        _print(models if not as_json else found, as_json, partial(print_models, url=url))
        if check and any(one["attention"] for one in models.values()):
            raise typer.Exit(1)
        return
    _print(found, as_json, print_status)
    bad = [found.get(name) for name in ("retrain", "trouble", "behind")]
    alarms = [found.get(name, {}).get("alarm") for name in ("one_class", "one_sided")]
    if check and (not found.get("runner_alive") or any(bad) or any(alarms)):
        raise typer.Exit(1)


@app.command()
def snapshots(url: Url = LOCAL, token: Token = None, as_json: AsJson = False) -> None:
    """List the snapshots: figures, which one serves, and which one a plain rollback restores."""
    from bento_selfheal.cli.output import print_snapshots

    with service(url, token) as client:
        found = client.snapshots()
        many = not as_json and len(client.status().get("classes") or ()) > 2
    _print(found, as_json, partial(print_snapshots, many=many))


@app.command()
def promotions(
    url: Url = LOCAL, token: Token = None, last: Last = 20, as_json: AsJson = False
) -> None:
    """List what served when, why, and who decided it."""
    from bento_selfheal.cli.output import print_promotions

    with service(url, token) as client:
        _print(_newest(client.promotions, last), as_json, print_promotions)


@app.command()
def events(url: Url = LOCAL, token: Token = None, last: Last = 20, as_json: AsJson = False) -> None:
    """List what happened: heals, promotions, rollbacks, refusals and commands."""
    from bento_selfheal.cli.output import print_events

    with service(url, token) as client:
        _print(_newest(client.events, last), as_json, print_events)


@app.command()
def rollback(
    version: Annotated[
        int | None,
        typer.Argument(min=1, help="Version of a snapshot; by default the one that served before."),
    ] = None,
    url: Url = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Serve an older snapshot. This works even when the runner is dead.

    A canary ends by it; named by its own version, it answers all requests from now on.
    """
    with service(url, token) as client:
        done = client.rollback(version)
    _print(done, as_json, lambda p, console: say(console, f"snapshot {p['version']} serves"))


@app.command()
def heal(url: Url = LOCAL, token: Token = None, as_json: AsJson = False) -> None:
    """Heal once on the labels received so far, whatever the signals say."""
    _command("heal", url, token, as_json)


@app.command()
def pause(url: Url = LOCAL, token: Token = None, as_json: AsJson = False) -> None:
    """Stop the service from healing, promoting and rolling back by itself.

    Signals and figures continue. Your own commands still work: rollback, forget, and heal, whose
    snapshot is promoted only after `resume`.
    """
    _command("pause", url, token, as_json, "; your own heal, rollback and forget still work")


@app.command()
def observe(url: Url = LOCAL, token: Token = None, as_json: AsJson = False) -> None:
    """Keep healing, but promote nothing."""
    _command("observe", url, token, as_json)


@app.command()
def resume(url: Url = LOCAL, token: Token = None, as_json: AsJson = False) -> None:
    """Resume heals and promotions."""
    _command("resume", url, token, as_json)


@app.command()
def forget(
    source: Annotated[str, typer.Argument(help="Name of the source, as its feedback gives it.")],
    url: Url = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Quarantine a source of labels and remove what it taught."""
    unknown = ", of which no label is known yet; none will be learned from"
    _of_source(
        "forget", source, url, token, as_json, lambda known: unknown if known is None else ""
    )


@app.command()
def release(
    source: Annotated[str, typer.Option(help="Name of the source, as its feedback gives it.")],
    url: Url = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Lift the quarantine of a source: its later labels are learned from, and judged anew."""
    free = ", which is not quarantined"
    _of_source(
        "release", source, url, token, as_json,
        lambda known: "" if known is not None and known.get("quarantined") else free,
    )  # fmt: skip


@app.command()
def erase(
    key: Annotated[
        str | None, typer.Option(help="The row's own key, as it was sent to /predict.")
    ] = None,
    prediction_id: Annotated[
        str | None, typer.Option(help="Or the id of a prediction of the row.")
    ] = None,
    token_name: Annotated[
        str | None,
        typer.Option(help="Name of the token that the key was sent with; by default your own."),
    ] = None,
    url: Url = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Erase a row, its labels and whatever was trained on it. This cannot be undone."""
    if (key is None) == (prediction_id is None):
        raise typer.BadParameter("give one of --key and --prediction-id")
    with service(url, token) as client:
        done = client.erase(key, prediction_id=prediction_id, token_name=token_name)
    _print(done, as_json, _print_erasure)


def _print_erasure(done: dict[str, Any], console: Console) -> None:
    back = done["rolled_back_to"]
    serves = "" if back is None else f"; snapshot {back}, which never saw it, serves"
    say(console, f"erased{serves}; the challengers are built anew from the other rows")


def _of_source(
    kind: str,
    source: str,
    url: str,
    token: str | None,
    as_json: bool,
    note_of: Callable[[dict[str, Any] | None], str],
) -> None:
    """Ask for something to be done with a source; the note is on what is known of it before."""
    with service(url, token) as client:
        note = note_of(client.status().get("sources", {}).get(source))
        done = getattr(client, kind)(source)
    _print(
        done, as_json, lambda command, console: say(console, f"requested: {kind} {source}{note}")
    )


def _command(kind: str, url: str, token: str | None, as_json: bool, note: str = "") -> None:
    with service(url, token) as client:
        done = getattr(client, kind)()
    _print(
        done,
        as_json,
        lambda command, console: say(
            console, f"requested: {kind} (command {command['seq']}){note}"
        ),
    )


@contextmanager
def service(url: str, token: str | None, retry_seconds: float = RETRY_SECONDS) -> Iterator[Client]:
    """A client of the service.

    Args:
        url: Its address.
        token: Bearer token.
        retry_seconds: Seconds after which no further attempt begins.

    Raises:
        ServiceUnavailable: Nothing answers there.
    """
    import httpx

    from bento_selfheal.client.client import Client

    with Client(url, token=token, retry_seconds=retry_seconds) as client:
        try:
            yield client
        except ServiceUnavailable as error:
            if not isinstance(error.__cause__, httpx.ConnectError):
                raise
            said = f"nothing answers at {url}: is it the service's address (--url)?"
            raise ServiceUnavailable(said) from error


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


def _print(found: Any, as_json: bool, printer: Callable[[Any, Console], None]) -> None:
    plain = to_jsonable_python(found)
    if as_json:
        typer.echo(json.dumps(plain))
    else:
        printer(plain, Console())
