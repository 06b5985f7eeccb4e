"""What an input of a network is, as a JSON Schema, and which bodies hold one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bento_selfheal.embedding.images import Images
from bento_selfheal.embedding.source import Source
from bento_selfheal.embedding.tensors import Tensors
from bento_selfheal.embedding.texts import Texts
from bento_selfheal.inputs.column import Column
from bento_selfheal.serving.openapi.row_schema import BINARY, LARGEST, NULL, JsonSchema, RowSchema
from bento_selfheal.wire.messages import KEYS_HEADER

MOST_SHOWN = 100
"""Numbers of an example; more of them would fill the page."""
EXAMPLE_IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"
)
"""One black pixel."""
FURTHER = 2
"""Powers of ten beyond the training data that the page shows as taken."""
WHOLE = ("uint8", "int32", "int64")


def input_schema(source: Source) -> RowSchema:
    """The schema of an input as JSON holds it."""
    if isinstance(source, Images):
        form = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}
        return _one("Image in base64", form, EXAMPLE_IMAGE)
    if isinstance(source, Texts):
        return _one("Text", {"type": "string"}, "a text")
    if isinstance(source, Tensors):
        size = int(np.prod(source.shape))
        example = np.zeros(source.shape, dtype=int).tolist() if size <= MOST_SHOWN else None
        return _one(f"{source.dtype} {list(source.shape)}", _nested(source), example)
    return _one("Value", {}, None)


def facts_schema(facts: Sequence[Column]) -> JsonSchema:
    """The schema of `facts`: an object for each input, or one for all."""
    codes = np.full((1, len(facts)), np.nan, dtype=np.float32)
    _, named = RowSchema.of(facts, codes).forms
    each = {**named, "required": []}
    return {"anyOf": [{"type": "array", "items": each}, each, NULL]}


def bodies(source: Source) -> dict[str, Any]:
    """The bodies that are one input, or one a part, by media type."""
    if not source.media_types:
        return {}
    told = f"The header `{KEYS_HEADER}` may hold your own key, as a JSON list."
    alone: JsonSchema = {"schema": {**BINARY, "description": told}}
    part, text = {"type": "array", "items": BINARY}, {"type": "string"}
    form = {"type": "object", "properties": {"files": part, "facts": text, "keys": text}}
    parts = {"multipart/form-data": {"schema": form}} if source.takes_parts else {}
    return {**dict.fromkeys(source.media_types, alone), **parts}


def _one(title: str, form: JsonSchema, example: Any) -> RowSchema:
    return RowSchema(({"title": title, **form},), example)


def _nested(source: Tensors) -> JsonSchema:
    most = _most(source.largest)
    value: JsonSchema = {"type": "number", "minimum": -most, "maximum": most}
    if source.dtype == "bool":
        value = {"type": "boolean"}
    elif source.dtype in WHOLE:
        known = np.iinfo(source.dtype)
        value = {"type": "integer", "minimum": int(known.min), "maximum": int(known.max)}
    for length in reversed(source.shape):
        value = {"type": "array", "items": value, "minItems": length, "maxItems": length}
    return value


def _most(trained: float | None) -> float:
    """The magnitude that the page shows as the largest: hundreds of times what came in training. A
    network may take more, and one that makes of it what no hidden vector can hold refuses it."""
    if not trained:
        return LARGEST
    return float(min(10.0 ** math.ceil(math.log10(trained) + FURTHER), LARGEST))
