"""The command that sends the labels of a file to a running service."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from bento_selfheal.cli.app import AsJson, app
from bento_selfheal.cli.labels.rejects import RejectsFile
from bento_selfheal.cli.labels.sending import Sender, Sent
from bento_selfheal.cli.operate import LOCAL, Token, Url, service
from bento_selfheal.cli.terminal import say
from bento_selfheal.core.text import counted
from bento_selfheal.errors import SelfHealError, SettingsError
from bento_selfheal.labelling.table import LabelTable, open_table

RETRY_SECONDS = 60.0
"""A nightly job outlasts a restart of the service."""
NOT_KEPT = 1
"""Exit code where a row was not kept, or the file was not sent to its end."""


@app.command()
def label(
    file: Annotated[Path, typer.Argument(help="CSV, also in gzip, or Parquet.")],
    key: Annotated[str, typer.Option(help="Column with your own keys.", metavar="COLUMN")],
    label: Annotated[str, typer.Option(help="Column with the labels.", metavar="COLUMN")],
    source: Annotated[
        str | None, typer.Option(help="Who or what assigned these labels.", metavar="NAME")
    ] = None,
    source_column: Annotated[
        str | None, typer.Option(help="Column that says this of each label.", metavar="COLUMN")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            help="Column with when each label was known: ISO 8601, or seconds since the epoch.",
            metavar="COLUMN",
        ),
    ] = None,
    corrects: Annotated[
        bool, typer.Option("--corrects", help="Replace different labels that were sent before.")
    ] = False,
    url: Url = LOCAL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Send the labels of a file. Sent again, each counts once: a run that broke off is repeated.

    Rows that are not kept are written to FILE.rejected.csv with their line and the reason, and the
    exit code is then 1.
    """
    if source is not None and source_column is not None:
        raise SettingsError("--source and --source-column: give one of them")
    columns = _given({"key": key, "label": label, "source": source_column, "time": time})
    constant: dict[str, Any] = _given({"source": source, "corrects": True if corrects else None})
    with file.open("rb") as opened, service(url, token, RETRY_SECONDS) as client:
        rejects = RejectsFile(file.with_name(f"{file.name}.rejected.csv"))
        sender = Sender(client, columns, constant, rejects)
        sent = _send(sender, opened, file)
    _print(sent, as_json)
    if sent.error or sent.rejected or sent.in_conflict or sent.unknown:
        raise typer.Exit(NOT_KEPT)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _send(sender: Sender, opened: BinaryIO, file: Path) -> Sent:
    """Send a file with a bar on a terminal; an error after the first labels ends up in the answer.

    Raises:
        SettingsError: The file cannot be read, or a column is not there.
        SelfHealError: The service refused the first rows, or is out of reach.
    """
    console = Console(stderr=True)
    try:
        with closing(open_table(opened)) as table, _bar(console) as bar:
            sender.check(table)
            task = bar.add_task(file.name, total=1.0)
            for part in sender.send(table):
                bar.update(task, completed=_share(table, opened, part.rows))
    except (SelfHealError, ValueError) as error:
        if isinstance(error, ValueError):
            error = SettingsError(f"file: {file}: {error}")
        if not sender.sent.rows:
            raise error from None
        sender.sent.error = str(error)
    finally:
        sender.close()
    return sender.sent


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


def _share(table: LabelTable, opened: BinaryIO, rows: int) -> float:
    """How much of a file is sent: of its rows where their number is known, else of its bytes."""
    if table.count is not None:
        return rows / max(table.count, 1)
    return opened.tell() / max(os.fstat(opened.fileno()).st_size, 1)


def _print(sent: Sent, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(sent)))
        return
    console = Console()
    say(
        console,
        f"{counted(sent.rows, 'row')}: {sent.accepted:,} accepted ({sent.waiting:,} still without "
        f"a prediction, {sent.unmatched:,} unmatched), {sent.already_known:,} already known, "
        f"{sent.unknown:,} unknown, {sent.in_conflict:,} in conflict, {sent.rejected:,} rejected",
    )
    for row in sent.first:
        say(console, f"line {row['line']}: {row['reason']}")
    if sent.rejected_file:
        say(console, f"rows that were not kept: {sent.rejected_file}")
    if sent.error:
        said = "run the same command again: each label counts once"
        say(Console(stderr=True), f"error: stopped after line {sent.line}: {sent.error}; {said}")
