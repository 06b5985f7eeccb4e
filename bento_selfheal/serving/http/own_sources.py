"""Sources of feedback belong to the token that sends them, so that no token speaks for another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bento_selfheal.errors import AccessDenied, InvalidInput
from bento_selfheal.labelling.item import LabelItem
from bento_selfheal.wire.messages import FeedbackItem

LONGEST = 200
"""Characters of a source that the store keeps."""


def own_sources(
    items: Sequence[FeedbackItem | LabelItem], token: str, listed: Mapping[str, Sequence[str]]
) -> None:
    """Name the source of each item as one of a token, in place.

    Args:
        items: Items of feedback.
        token: Name of the token that they were sent with.
        listed: By token, the sources that it may name; one that is not there may name any.

    Raises:
        AccessDenied: A source is not among those of the token.
        InvalidInput: A source is too long with the token's name before it.
    """
    own = None if token not in listed else {own_source(s, token) for s in (None, *listed[token])}
    for i, item in enumerate(items):
        given = item.source
        name_source(item, token, ("items", i))
        if own is not None and item.source not in own:
            raise AccessDenied(f"items.{i}.source: the token {token!r} may not name {given!r}")


def name_source(item: FeedbackItem | LabelItem, token: str, loc: tuple[str | int, ...]) -> None:
    """Name the source of an item as one of a token, in place.

    Raises:
        InvalidInput: The source is too long with the token's name before it.
    """
    item.source = own_source(item.source, token)
    if len(item.source) > LONGEST:
        most = LONGEST - len(token) - 1
        raise InvalidInput(
            (*loc, "source"), f"at most {most} characters with this token", "too_long"
        )


def own_source(source: str | None, token: str) -> str:
    """A source of a token; without a name it is the token itself.

    >>> own_source("till-3", "shop"), own_source("shop/till-3", "shop"), own_source(None, "shop")
    ('shop/till-3', 'shop/till-3', 'shop')
    """
    if not source or source == token:
        return token
    # No token has a slash in its name, so what begins so can be of no other one.
    return source if source.startswith(f"{token}/") else f"{token}/{source}"
