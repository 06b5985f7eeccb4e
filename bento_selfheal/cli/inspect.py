"""The command that tells what is in a file before a model is made from it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bento_selfheal.cli.app import AsJson, Drop, app
from bento_selfheal.cli.terminal import add_row, say
from bento_selfheal.core.text import counted

if TYPE_CHECKING:
    import pyarrow as pa


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet.")],
    label: Annotated[str | None, typer.Option(help="Column with the label.")] = None,
    drop: Drop = None,
    write: Annotated[
        Path | None, typer.Option(help="Write the types of the columns here, as JSON.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how a file is read, what its columns are, and which are better left out."""
    found = _found(file, label, drop or [])
    if write is not None:
        write.write_text(json.dumps(found["schema"], indent=2) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(found))
        return
    _print(found, Console())
    if write is not None:
        say(Console(), f"wrote {write}")


def _found(file: Path, label: str | None, drop: list[str]) -> dict[str, Any]:
    """What a file holds, as JSON values."""
    from bento_selfheal.inputs.inference import infer
    from bento_selfheal.inputs.schema import described
    from bento_selfheal.inputs.table_file import read_file

    read = read_file(file)
    inferred = infer(read.table, label, drop)
    return {
        "file": str(file),
        "notes": list(read.notes),
        "columns": [
            {"name": column.name, "type": column.kind.value, **_facts(read.table[column.name])}
            for column in inferred.columns
        ],
        "suspects": inferred.suspects,
        "label": None if label is None else _label(read.table, label),
        "schema": described(inferred.columns),
    }


def _facts(values: pa.ChunkedArray) -> dict[str, Any]:
    """The share of rows without a value, how many values differ, and the first one."""
    known = values.drop_null()
    return {
        "missing": values.null_count / len(values),
        "distinct": len(known.unique()),
        "example": str(known[0].as_py()) if len(known) else None,
    }


def _label(table: pa.Table, label: str) -> dict[str, Any]:
    """The classes with their numbers of rows, and how many rows have none."""
    import numpy as np

    from bento_selfheal.inputs.labels import labels_of

    labels, has_one = labels_of(table, label)
    classes, counts = np.unique(labels, return_counts=True)
    return {
        "name": label,
        "classes": dict(zip(map(str, classes), counts.tolist(), strict=True)),
        "missing": int((~has_one).sum()),
    }


def _print(found: Mapping[str, Any], console: Console) -> None:
    for note in found["notes"]:
        say(console, note)
    table = Table(title="columns")
    for heading in ("name", "type", "missing", "distinct", "example"):
        table.add_column(heading, justify="left" if heading in ("name", "type") else "right")
    for one in found["columns"]:
        missing, distinct = f"{one['missing']:.1%}", f"{one['distinct']:,}"
        add_row(table, one["name"], one["type"], missing, distinct, one["example"] or "")
    console.print(table)
    if found["label"]:
        _print_label(found["label"], console)
    for name, why in found["suspects"].items():
        say(console, f"column {name!r}: {why}; to leave it out: --drop {shlex.quote(name)}")


def _print_label(label: Mapping[str, Any], console: Console) -> None:
    classes = label["classes"]
    shown = [f"{name} ({count:,})" for name, count in list(classes.items())[:20]]
    more = f" and {len(classes) - len(shown):,} more" if len(classes) > len(shown) else ""
    say(console, f"label {label['name']!r}: {', '.join(shown)}{more}")
    if missing := label["missing"]:
        say(console, f"{counted(missing, 'row has', 'rows have')} no label: left out")
