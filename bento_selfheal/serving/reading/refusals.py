"""What an error says of names that are not the model's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NoReturn

from bento_selfheal.core.text import shown
from bento_selfheal.errors import InvalidInput

TOLD = 10
"""Most names that an error message lists."""


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
