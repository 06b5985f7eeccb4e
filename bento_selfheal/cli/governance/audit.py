"""The commands that show and check the audit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from bento_selfheal.cli.app import AsJson, app
from bento_selfheal.cli.terminal import add_row, say
from bento_selfheal.core.text import counted

if TYPE_CHECKING:
    from bento_selfheal.core.audit.entry import AuditEntry, Head
    from bento_selfheal.store import SqlStore

audits = typer.Typer(
    help="The audit: who did what, chained by hash. The SELFHEAL_ settings say which store.",
    invoke_without_command=True,
)
app.add_typer(audits, name="audit")
Last = Annotated[int, typer.Option(min=1, max=100_000, help="How many to show: the newest.")]


@audits.callback()
def without_a_command(context: typer.Context) -> None:
    """The audit: who did what, chained by hash. The SELFHEAL_ settings say which store."""
    if context.invoked_subcommand is None:
        list_entries()


@audits.command("list")
def list_entries(last: Last = 50, as_json: AsJson = False) -> None:
    """List who did what, newest last."""
    with _store() as store:
        entries = store.audit(limit=last)
    if as_json:
        typer.echo(json.dumps([entry.as_dict() for entry in entries]))
        return
    table = Table()
    for name in ("seq", "time", "act", "by", "role", "detail"):
        table.add_column(name)
    for entry in entries:
        add_row(table, entry.seq, _time(entry), entry.act, entry.by, entry.role, entry.detail)
    Console().print(table)


@audits.command()
def verify(
    noted: Annotated[
        str | None,
        typer.Option("--head", metavar="SEQ:HASH", help="An end of the chain noted earlier."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that no entry was changed, removed or put in; exit code 1 where one was.

    Note the head that it prints where nobody who can write the store can: with --head, a chain
    that was written anew is found too.
    """
    with _store() as store:
        verdict = store.verify_audit(None if noted is None else _head(noted))
    whole = verdict.whole
    if as_json:
        found = {"entries": verdict.entries, "head": str(verdict.head), "whole": whole}
        broken = {} if whole else {"broken": verdict.broken, "reason": verdict.why}
        typer.echo(json.dumps({**found, **broken}))
    elif whole:
        say(Console(), f"{counted(verdict.entries, 'entry', 'entries')} whole, head {verdict.head}")
    else:
        say(Console(), f"broken at entry {verdict.broken}: {verdict.why}", "bold")
    if not whole:
        raise typer.Exit(1)


def _head(text: str) -> Head:
    from bento_selfheal.core.audit.entry import Head

    try:
        return Head.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--head") from error


@contextmanager
def _store() -> Iterator[SqlStore]:
    from bento_selfheal.config.settings import load_model_settings
    from bento_selfheal.deployment.locations import open_existing

    store = open_existing(load_model_settings())
    try:
        store.check()
        yield store
    finally:
        store.close()


def _time(entry: AuditEntry) -> str:
    try:
        return datetime.fromtimestamp(entry.time).astimezone().isoformat(" ", "seconds")
    except (TypeError, ValueError, OverflowError):  # changed by hand, as `verify` will say
        return str(entry.time)
