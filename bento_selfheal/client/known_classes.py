"""The lists of classes that a client has asked for, as they are too long for a header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import parse_qs, urlsplit

from bento_selfheal.core.records import Label
from bento_selfheal.wire.class_list import CLASSES_AT_HEADER, CLASSES_HEADER

MOST = 8
"""Lists that are kept: a service has one, and another after it was deployed anew."""


class KnownClasses:
    """Each list is asked for once."""

    def __init__(self) -> None:
        self._lists: dict[str, list[Label]] = {}

    def missing(self, headers: Mapping[str, str]) -> str | None:
        """The digest of the classes that an answer's headers refer to, if they are not known."""
        digest = _digest_of(headers)
        return None if digest in self._lists else digest

    def keep(self, digest: str, classes: list[Label]) -> None:
        """Know these classes from now on."""
        self._lists = dict([*self._lists.items(), (digest, classes)][-MOST:])

    def of(self, headers: Mapping[str, str]) -> list[Label]:
        """The classes of an answer.

        Raises:
            KeyError: Its headers name none.
        """
        digest = _digest_of(headers)
        if digest is not None:
            return self._lists[digest]
        return _read(headers[CLASSES_HEADER])


@lru_cache(MOST)
def _read(text: str) -> list[Label]:
    classes: list[Label] = json.loads(text)
    return classes


def _digest_of(headers: Mapping[str, str]) -> str | None:
    place = headers.get(CLASSES_AT_HEADER)
    return None if place is None else parse_qs(urlsplit(place).query).get("digest", [""])[0]
