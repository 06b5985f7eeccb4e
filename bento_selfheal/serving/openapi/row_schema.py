"""What a row of a model is, as a JSON Schema: by name, type and example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.inputs.column import ORDERED, Column, Kind
from bento_selfheal.inputs.schema import EPOCH
from bento_selfheal.wire.messages import ARROW, KEYS_HEADER, NPY

JsonSchema = dict[str, Any]

LARGEST = 3.4e38
"""Somewhat less than the largest float32, so that a bound's own text is within it."""
SHOWN_LEVELS = 10
"""Of a category; of thousands, the page would show nothing else."""
NULL: JsonSchema = {"type": "null"}
BINARY: JsonSchema = {"type": "string", "format": "binary"}


@dataclass(frozen=True)
class RowSchema:
    """A row as a client may send it."""

    forms: tuple[JsonSchema, ...]
    """Of a table as a list in the order of the columns, and as an object by name."""
    example: Any
    """In the first form; None where there is none."""

    @classmethod
    def of(cls, columns: Sequence[Column], codes: NDArray[np.float32]) -> RowSchema:
        """The schema of a model's rows.

        Args:
            columns: Their types, in their order.
            codes: Rows, ``(n, columns)``: their medians are the examples, so that no row of
                anybody stands on the page.
        """
        examples = [_examples(column, own) for column, own in zip(columns, codes.T, strict=True)]
        inputs = [_value(c, shown) for c, shown in zip(columns, examples, strict=True)]
        names = [column.name for column in columns]
        listed = {
            "title": "In order", "type": "array", "prefixItems": inputs, "items": False,
            "minItems": len(inputs), "maxItems": len(inputs),
        }  # fmt: skip
        named = {
            "title": "By name", "type": "object", "required": names,
            "properties": dict(zip(names, inputs, strict=True)), "additionalProperties": False,
        }  # fmt: skip
        return cls((listed, named), [shown[0] for shown in examples])


def table_bodies(columns: Sequence[Column]) -> dict[str, Any]:
    """The bodies besides JSON that hold rows of these columns, by media type."""
    stream = (
        "One Arrow IPC stream of a table, with the columns by name, in any order. A column "
        f"`{KEYS_HEADER}` holds your own key of each row."
    )
    file = (
        "A NumPy array file (n, features) of numbers, in the order of the features. The header "
        f"`{KEYS_HEADER}` may hold your own keys of the rows, as a JSON list."
    )
    told = {ARROW: stream}
    if all(column.kind in ORDERED for column in columns):
        told[NPY] = file
    return {kind: {"schema": {**BINARY, "description": said}} for kind, said in told.items()}


def _value(column: Column, examples: Sequence[Any]) -> JsonSchema:
    choices = _choices(column) + [NULL] * column.nullable
    told = {"title": column.name, "description": column.kind.value, "examples": examples}
    return told | (choices[0] if len(choices) == 1 else {"anyOf": choices})


def _choices(column: Column) -> list[JsonSchema]:
    """The types that a value may have."""
    if column.kind is Kind.DATETIME:
        return [{"type": "string", "format": name} for name in ("date", "date-time")]
    if column.kind is Kind.CATEGORY:
        return [{"type": "string"}]
    if column.kind is Kind.BOOLEAN:
        return [{"type": "boolean"}]
    low, high = column.origin - LARGEST, column.origin + LARGEST
    return [{"type": column.kind.value, "minimum": low, "maximum": high}]


def _examples(column: Column, codes: NDArray[np.float32]) -> list[Any]:
    """Usual values; the first ones known of a category."""
    if column.kind is Kind.CATEGORY:
        return list(column.levels[:SHOWN_LEVELS]) or ["a text"]
    if column.kind is Kind.BOOLEAN:
        return [True]
    known = codes[~np.isnan(codes)]
    usual = float(np.median(known) if len(known) else 0) + column.origin
    if column.kind is Kind.DATETIME:
        return [(EPOCH + timedelta(days=usual)).date().isoformat()]
    return [round(usual) if column.kind is Kind.INTEGER else float(f"{usual:.3g}")]
