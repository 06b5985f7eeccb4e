"""The setting of segments: groups of rows that no promotion may make worse."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bento_selfheal.config.groups import Group

MOST_SEGMENTS = 100
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Segment(BaseModel):
    """Each value of a column, ranges of a column, or the rows on which a rule holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: Name | None = None
    ranges: Annotated[tuple[float, ...], Field(min_length=1, max_length=MOST_SEGMENTS)] | None = (
        None
    )
    rule: Name | None = None
    name: Name | None = None

    @field_validator("ranges")
    @classmethod
    def _grow(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        bounds = value or ()
        if not all(map(math.isfinite, bounds)):
            raise ValueError("finite numbers are needed")
        if any(low >= high for low, high in itertools.pairwise(bounds)):
            raise ValueError("each bound must be larger than the one before it")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.column is None) == (self.rule is None):
            raise ValueError("give either column, with or without ranges, or rule")
        if self.rule is not None and self.ranges is not None:
            raise ValueError("ranges are those of a column; a rule has none")
        if self.rule is not None and not self.rule.strip():
            raise ValueError("the rule is empty")
        if self.name is not None and self.rule is None:
            raise ValueError("only a rule has a name; segments of a column are named by its values")
        return self


class SegmentSettings(Group):
    """Segments."""

    segments: tuple[Segment, ...] = ()
    """Groups of rows that no promotion may make worse: a table `[[segments]]` each in
    `selfheal.toml`, or a JSON list such as `[{"column": "region"}, {"column": "amount", "ranges":
    [0, 100, 1000]}, {"rule": "age < 25", "name": "young"}]`. At most 100 segments in all. See
    [Proof](proof.md#no-segment-harmed)."""
