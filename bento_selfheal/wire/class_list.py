"""A model's classes beside an answer that is a NumPy file: in a header, or where they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from bento_selfheal.core.records import Label

CLASSES_HEADER = "selfheal-classes"
"""The classes, a JSON list."""
CLASSES_AT_HEADER = "selfheal-classes-at"
"""Instead of it where the list is long: its URL, relative to that of the request."""
CLASSES_PATH = "/classes"
LONGEST = 3_000
"""Bytes of the list in a header: all headers must fit the 4 kB that nginx takes by default."""


@dataclass(frozen=True)
class ClassList:
    """The classes of a model, and a digest that names them."""

    classes: Sequence[Label]

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that are others for other classes."""
        return hashlib.sha256(self._text.encode()).hexdigest()[:16]

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The header of answers that are NumPy files."""
        if len(self._text) <= LONGEST:
            return {CLASSES_HEADER: self._text}
        return {CLASSES_AT_HEADER: f"{CLASSES_PATH[1:]}?digest={self.digest}"}

    @cached_property
    def _text(self) -> str:
        return json.dumps(list(self.classes))
