"""What a terminal shows: text from elsewhere never becomes markup or an escape sequence."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bento_selfheal.core.text import visible


def literal(value: Any, style: str = "") -> Text:
    """A value as text that rich shows as it is; control characters are shown escaped."""
    return Text(visible(str(value)), style)


def say(console: Console, message: str, style: str = "") -> None:
    """Print a message of one line or more, unbroken, whatever the text in it holds."""
    lines = [literal(line, style) for line in message.split("\n")]
    console.print(Text("\n").join(lines), soft_wrap=True)


def add_row(table: Table, *cells: Any) -> None:
    """Add a row whose cells are shown as they are; a `Text` keeps its style."""
    table.add_row(*(cell if isinstance(cell, Text) else literal(cell) for cell in cells))
