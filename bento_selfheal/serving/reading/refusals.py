"""What an error says of a value, and of names that are not the model's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from reprlib import Repr
from typing import Any, NoReturn

from bento_selfheal.errors import InvalidInput

SHOWN = 80
"""Characters of a value that an error message shows."""
TOLD = 10
"""Most names that an error message lists."""


def shown(value: Any) -> str:
    """A value for an error message, cut to a length that fits a log line.

    >>> shown("x" * 1_000_000)[:8]
    "'xxxxxxx"
    """
    text = repr(value[: 2 * SHOWN]) if isinstance(value, str) else _CUT.repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def refuse_names(
    given: Collection[str], known: Sequence[str], loc: tuple[str | int, ...]
) -> NoReturn:
    """Refuse names that are not the model's features: all that are unknown, all that are missing.

    Args:
        given: The names; they differ from the model's.
        known: The model's.
        loc: Where they stand.

    Raises:
        InvalidInput: It stands at the first of them.
    """
    mine, theirs = set(known), set(given)
    unknown = [name for name in given if name not in mine]
    missing = [name for name in known if name not in theirs]
    kind = "unknown_feature" if unknown else "missing"
    if len(unknown) + len(missing) == 1:
        said = "unknown feature" if unknown else "missing feature"
    else:
        told = {"unknown": unknown, "missing": missing}
        said = "; ".join(f"{what}: {_listed(names)}" for what, names in told.items() if names)
    raise InvalidInput((*loc, (unknown or missing)[0]), said, kind)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - TOLD:,} more" if len(names) > TOLD else ""
    return ", ".join(map(shown, names[:TOLD])) + more


# The whole text of a large value would take seconds to write, only to be cut afterwards.
_CUT = Repr()
_CUT.maxlist = _CUT.maxdict = _CUT.maxtuple = SHOWN
_CUT.maxstring = _CUT.maxother = 2 * SHOWN
_CUT.maxlong = 2 * SHOWN
