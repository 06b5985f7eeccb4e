"""Inputs that are texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from bento_selfheal.core.records import RawInput
from bento_selfheal.embedding.source import Source


class Texts(Source):
    """Texts. `prepare` names the function that makes tokens of them; a network without one is
    called with the list of texts, as sentence encoders are."""

    kind: Literal["text"] = "text"
    takes_parts: ClassVar[bool] = True
    media_types: ClassVar[tuple[str, ...]] = ("text/plain",)

    def read(self, value: Any) -> str:
        """The text; of bytes as UTF-8.

        Raises:
            ValueError: It is none.
        """
        if isinstance(value, bytes):
            try:
                return value.decode()
            except UnicodeDecodeError as error:
                raise ValueError(f"a text in UTF-8 is needed: {error}") from error
        if not isinstance(value, str):
            raise ValueError(f"a text is needed, got {type(value).__name__}")
        return value

    def raw(self, value: Any) -> RawInput:
        """The text in UTF-8."""
        return RawInput("text/plain", self.read(value).encode())

    def gather(self, inputs: Sequence[str]) -> list[str]:
        """The list of texts."""
        return list(inputs)
