"""A column of a table: its name, its type, and how its values become numbers."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Kind(StrEnum):
    """What the values of a column are."""

    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    DATETIME = "datetime"


ORDERED = (Kind.NUMBER, Kind.INTEGER, Kind.BOOLEAN)
"""Kinds whose codes are numbers that can be compared."""


class Column(BaseModel):
    """One input of a model, as it is packaged.

    A value becomes one float32, its *code*: a number less `origin`, 0 or 1, the place of its level,
    or days since `origin`; NaN where it is missing, and the number of levels where a category was
    never seen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Kind = Kind.NUMBER
    nullable: bool = False
    """Whether a value may be missing."""
    levels: tuple[str, ...] = ()
    """Of a category: the values known from training, as text."""
    origin: float = 0.0
    """What is subtracted before a number becomes float32, which large ones would not survive; of a
    date, days since 1970-01-01."""
