"""Labels from outside as classes of the model: checked, or refused with the value named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bento_selfheal.core.records import Label
from bento_selfheal.core.text import shown
from bento_selfheal.errors import InvalidInput

WHOLE = re.compile(r"(-?\d+)\.0+")
"""What tools write of a whole number in a column that has gaps."""


class LabelReader:
    """Turns a label as JSON or a table gives it into the index of its class.

    Args:
        classes: The model's classes, in their order.

    Attributes:
        classes: The same.
    """

    def __init__(self, classes: Sequence[Label]) -> None:
        self.classes = list(classes)
        self._index = {label: i for i, label in enumerate(classes)}
        self._by_text: dict[str, list[int]] = {}
        for i, label in enumerate(classes):
            self._by_text.setdefault(str(label), []).append(i)

    def read(self, label: Any, loc: tuple[str | int, ...]) -> int:
        """The index of the class: ``"1"`` and ``"1.0"`` are the class 1 too where no other has this
        text.

        Raises:
            InvalidInput: It is no class of this model.
        """
        if isinstance(label, int | float | str) and not isinstance(label, bool):
            found = self._index.get(label)  # type: ignore[arg-type]
            if found is not None:
                return found
            alike = self._alike(str(label))
            if len(alike) == 1:
                return alike[0]
        known = ", ".join(repr(c) for c in self._index)
        raise InvalidInput(loc, f"{shown(label)} is not a class; classes are {known}", "label")

    def _alike(self, text: str) -> list[int]:
        """The classes with this text, or with that of the whole number that it writes."""
        alike = self._by_text.get(text, [])
        if not alike and (whole := WHOLE.fullmatch(text)) is not None:
            alike = self._by_text.get(whole[1], [])
        return alike
