"""Text that is shown to a person."""

from __future__ import annotations

from reprlib import Repr
from typing import Any

SHOWN = 80
"""Characters of a value that an error message shows."""


def visible(text: str) -> str:
    r"""Text with everything that is not printable written as an escape.

    Names of sources and reasons come from whoever sends them. Shown as they are, an escape
    sequence would operate the terminal that shows it, a line feed would forge a line, and a
    surrogate cannot be written at all.

    >>> visible("bank\x1b[2J\n")
    'bank\\x1b[2J\\n'
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun, in the singular or the plural; by default the plural has an s.

    >>> counted(1, "rollback"), counted(2000, "heal")
    ('1 rollback', '2,000 heals')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def shown(value: Any) -> str:
    """A value for an error message, cut to a length that fits a log line.

    >>> shown("x" * 1_000_000)[:8]
    "'xxxxxxx"
    """
    text = repr(value[: 2 * SHOWN]) if isinstance(value, str) else _CUT.repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


# The whole text of a large value would take seconds to write, only to be cut afterwards.
_CUT = Repr()
_CUT.maxlist = _CUT.maxdict = _CUT.maxtuple = SHOWN
_CUT.maxstring = _CUT.maxother = 2 * SHOWN
_CUT.maxlong = 2 * SHOWN
