"""Labels from outside as classes of the model or new ones; others are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from bento_selfheal.core.labels import index_of_new, is_class, name_of_new
from bento_selfheal.core.records import Label
from bento_selfheal.core.text import shown
from bento_selfheal.errors import InvalidInput

WHOLE = re.compile(r"(-?\d+)\.0+")
"""What tools write of a whole number in a column that has gaps."""
LONGEST = 100
"""Characters of a class."""
MOST = 2**53
"""Integers below this are the same in every language."""


class LabelReader:
    """Turns a label as JSON gives it into the index of its class.

    A label of the classes' own type that is none of them is a new class: it is kept. What has
    another type, or is a known class but for capitals and spaces, is a mistake of the sender.

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
        self._alike = {text.strip().casefold(): text for text in self._by_text}
        self._kinds = {type(label) for label in classes}

    def read(self, label: Any, loc: tuple[str | int, ...]) -> tuple[int, str | None]:
        """The index of the class, and its name as the log has it where the model lacks it.

        ``"1"`` and ``"1.0"`` are the class 1 too where no other has this text.

        Raises:
            InvalidInput: It can be no class beside those of this model.
        """
        if isinstance(label, int | float | str) and not isinstance(label, bool):
            found = self._index.get(label)  # type: ignore[arg-type]
            if found is not None:
                return found, None
            text = str(label)
            alike = self._by_text.get(text, [])
            if (
                not alike
                and (whole := WHOLE.fullmatch(text)) is not None
                and str not in self._kinds
            ):
                label, alike = whole[1], self._by_text.get(whole[1], [])
            if len(alike) == 1:
                return alike[0], None
            if (new := self._new(label)) is not None:
                name = name_of_new(new)
                return index_of_new(name), name
        known = ", ".join(repr(c) for c in self._index)
        near = self._alike.get(label.strip().casefold()) if isinstance(label, str) else None
        hint = "" if near is None else f"; did you mean {near!r}?"
        raise InvalidInput(
            loc, f"{shown(label)} is not a class; classes are {known}{hint}", "label"
        )

    def class_of(self, index: int, name: str | None) -> Label | None:
        """The class of an index; None of a label that was taken back.

        Args:
            index: As `read` gives it.
            name: As `read` gives it.
        """
        if is_class(index, len(self.classes)):
            return self.classes[index]
        return None if name is None else json.loads(name)

    def _new(self, label: float | str) -> Label | None:
        """A label as a class beside the model's; None where it can be none."""
        if int in self._kinds:
            try:
                number = int(label)
            except (ValueError, OverflowError):  # a text, NaN or infinity
                number = MOST
            whole = str(number) == label if isinstance(label, str) else number == label
            if whole and abs(number) < MOST and number not in self._index:
                return number
        if str not in self._kinds or not isinstance(label, str):
            return None
        good = 0 < len(label) <= LONGEST and label.isprintable() and label.strip() == label
        return label if good and label.casefold() not in self._alike else None
