"""The setting of services to which one class is never reported."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
LONGEST_DAYS = 3650.0
FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")


class Unreported(BaseModel):
    """What a row is that nobody reports, and when that can be told."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )

    label: int | str = Field(alias="class")
    """The class, as labels name it."""
    after: str
    """Age from which on a row without a label is of that class: a number and a unit, one of `s`,
    `m`, `h` and `d`."""

    @field_validator("label", mode="before")
    @classmethod
    def _no_boolean(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("a class is a number or a text")
        return value

    @field_validator("after")
    @classmethod
    def _a_time(cls, value: str) -> str:
        found = FORM.fullmatch(value)
        if found is None:
            raise ValueError('a number and a unit are needed, such as "30d", "12h" or "90m"')
        if not 1.0 <= _seconds(value) <= LONGEST_DAYS * UNITS["d"]:
            raise ValueError(f"between 1s and {LONGEST_DAYS:.0f}d is needed")
        return value

    @property
    def seconds(self) -> float:
        """The age in seconds."""
        return _seconds(self.after)

    @property
    def days(self) -> float:
        """The age in days."""
        return self.seconds / UNITS["d"]

    @model_serializer
    def _as_given(self) -> dict[Literal["class", "after"], Any]:
        return {"class": self.label, "after": self.after}


def _seconds(text: str) -> float:
    found = FORM.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return float(found[1]) * UNITS[found[2]]
