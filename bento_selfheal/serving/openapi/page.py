"""The API page of a running service: BentoML's own, with the inputs and classes of its model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bento_selfheal.core.records import Label
from bento_selfheal.embedding.rows import TableRows
from bento_selfheal.inputs.column import Column
from bento_selfheal.labelling.classes import LONGEST, MOST
from bento_selfheal.packaging.package import Package
from bento_selfheal.serving.openapi.network_schema import bodies, facts_schema, input_schema
from bento_selfheal.serving.openapi.own_files import without_badges
from bento_selfheal.serving.openapi.row_schema import (
    BINARY,
    NULL,
    JsonSchema,
    RowSchema,
    table_bodies,
)
from bento_selfheal.wire.messages import LABEL_TABLES

SIGN = "[!-~¡-¬®-ɏЀ-џ一-龥]"
TEXT = f"^{SIGN}+( {SIGN}+)*$"
"""Printable text without spaces around it, in the letters that every library knows."""
KINDS: dict[type, JsonSchema] = {
    int: {"type": "integer", "exclusiveMinimum": -MOST, "exclusiveMaximum": MOST},
    str: {"type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": TEXT},
}
"""What a label is, by the type of the model's classes."""
DAY = 86_400.0
"""Age of labels that the page shows as taken: few keep them for less."""
VERSION = "3.1.0"
"""Of OpenAPI: BentoML's own, 3.0, knows neither null nor lists of different items."""

LABEL_TABLE: JsonSchema = {
    **BINARY,
    "description": "A table of labels: the columns `label` and `key` or `prediction_id`, and where "
    "you have them `source`, `corrects` and `time`.",
}


@dataclass(frozen=True)
class ApiPage:
    """A page as BentoML asks for it."""

    content: dict[str, Any]

    def asdict(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return self.content


def with_inputs(page: dict[str, Any], package: Package, max_rows: int) -> ApiPage:
    """A page that shows what this model takes.

    Args:
        page: BentoML's OpenAPI document, which changes.
        package: The model.
        max_rows: Most rows or items that a request may carry.
    """
    info = package.info
    row, given = _row_schema(package), page["components"]["schemas"]["predict__Input"]
    schemas = page["components"]["schemas"]
    _tell_rows(given["properties"]["rows"], row, max_rows)
    given["properties"]["keys"]["oneOf"][0] |= {"minItems": 1, "maxItems": max_rows}
    network = info.embedding
    if network is None or isinstance(network.source, TableRows):
        del given["properties"]["facts"]
    else:
        if facts := info.columns[network.width :]:
            given["properties"]["facts"] = facts_schema(facts) | {"title": "Facts"}
        else:
            del given["properties"]["facts"]
        given["properties"]["rows"]["description"] = "Inputs of the network, a value for each."
    schemas["feedback__Input"]["properties"]["items"] |= {"minItems": 1, "maxItems": max_rows}
    _tell_labels(schemas["FeedbackItem"], row, info.classes)
    _refer(page["paths"], "predict", more_bodies(package))
    _refer(page["paths"], "feedback", {kind: {"schema": LABEL_TABLE} for kind in LABEL_TABLES})
    told = page["info"] | {"description": without_badges(page["info"]["description"])}
    return ApiPage(page | {"openapi": VERSION, "info": told})


def more_bodies(package: Package) -> dict[str, Any]:
    """The bodies besides JSON that this model takes."""
    network = package.info.embedding
    if network is not None and not isinstance(network.source, TableRows):
        return bodies(network.source)
    return table_bodies(package.info.columns[package.info.hidden_columns :])


def _row_schema(package: Package) -> RowSchema:
    """The schema of what this model is asked about."""
    info = package.info
    network, first = info.embedding, info.hidden_columns
    if network is not None and not isinstance(network.source, TableRows):
        return input_schema(network.source)
    columns = info.columns or [Column(name=name) for name in info.features]
    return RowSchema.of(columns[first:], package.reference_rows[:, first:])


def _tell_rows(rows: JsonSchema, row: RowSchema, max_rows: int) -> None:
    """Rows are all lists or all objects."""
    del rows["items"]
    rows["anyOf"] = [{"title": form["title"], "items": form} for form in row.forms]
    rows |= {"minItems": 1, "maxItems": max_rows}
    rows.pop("example", None)
    if row.example is not None:
        rows["example"] = [row.example]


def _tell_labels(item: JsonSchema, row: RowSchema, classes: Sequence[Label]) -> None:
    """An item names its row by a key or an id, or gives it; it has a label or takes one back."""
    named = ", ".join(map(repr, classes))
    fields = item["properties"]
    del fields["label"]["oneOf"], fields["features"]["oneOf"]
    fields["label"] |= {
        "description": f"A class of the model, {named}, or one of their type that it never saw.",
        "anyOf": [KINDS[kind] for kind in KINDS if kind in set(map(type, classes))] + [NULL],
        "example": classes[-1],
    }
    now = time.time()
    fields["time"]["anyOf"] = [{"type": "number", "minimum": now - DAY, "maximum": now}, NULL]
    fields["features"]["anyOf"] = [*row.forms, NULL]
    item["example"] = item["example"] | {"label": classes[-1]}
    labelled = {"label": {"not": NULL}, "retract": {"const": False}}
    taken_back = {"label": NULL, "retract": {"const": True}, "corrects": {"const": False}}
    item["oneOf"] = [
        {"title": "Label", "required": ["label"], "properties": labelled},
        {"title": "Taken back", "required": ["retract"], "properties": taken_back},
    ]
    text = {"type": "string"}
    by_key = {"properties": {"key": {"not": NULL}, "prediction_id": NULL, "features": NULL}}
    by_id = {"properties": {"prediction_id": text, "features": NULL, "key": NULL}}
    by_row = {"properties": {"features": {"not": NULL}, "prediction_id": NULL}}
    item["anyOf"] = [
        {"title": "By key", "required": ["key"], **by_key},
        {"title": "By id", "required": ["prediction_id"], **by_id},
        {"title": "By row", "required": ["features"], **by_row},
    ]


def _refer(paths: Mapping[str, Any], name: str, more: Mapping[str, Any]) -> None:
    """The body of an endpoint is the schema of its input, which is told in one place, or one of
    more bodies."""
    for path in paths.values():
        post = path.get("post", {})
        if post.get("x-bentoml-name") == name:
            schema = {"$ref": f"#/components/schemas/{name}__Input"}
            post["requestBody"] = {
                "required": True, "content": {"application/json": {"schema": schema}, **more},
            }  # fmt: skip
