"""Labels that are no class of the model: one that was taken back, and a class it never saw."""

from __future__ import annotations

import hashlib
import json

from bento_selfheal.core.records import Label

NO_LABEL = -1
"""Stands in the log where a label was taken back."""
FIRST_NEW = 2**30
"""Indices from here on are of classes that the packaged model does not have."""


def name_of_new(label: Label) -> str:
    """A class that the packaged model does not have, as the log names it: JSON.

    >>> name_of_new("grey"), name_of_new(7)
    ('"grey"', '7')
    """
    return json.dumps(label, ensure_ascii=False)


def index_of_new(name: str) -> int:
    """The index of such a class: the same in every process, without a table that numbers them.

    >>> index_of_new('"grey"') == index_of_new('"grey"') >= FIRST_NEW
    True
    """
    digest = hashlib.blake2b(name.encode(), digest_size=4).digest()
    return FIRST_NEW + int.from_bytes(digest, "big") % FIRST_NEW


def is_class(label: int, classes: int) -> bool:
    """Whether a label is one of the model's classes."""
    return 0 <= label < classes
