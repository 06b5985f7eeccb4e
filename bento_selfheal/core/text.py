"""Text that is shown to a person."""

from __future__ import annotations


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

    >>> counted(1, "rollback"), counted(0, "heal")
    ('1 rollback', '0 heals')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {plural or noun + 's'}"
