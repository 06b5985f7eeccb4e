"""One OpenAPI document of several models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

SCHEMAS = "#/components/schemas/"


def below(name: str, page: Mapping[str, Any]) -> dict[str, Any]:
    """The document of one model, whose paths begin with its name."""
    return {**page, "servers": [{"url": f"/{name}"}]}


def merged(pages: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The documents of all models as one: paths and schemas carry the model's name.

    Args:
        pages: By name the document of each model, at least one.
    """
    whole: dict[str, Any] = {**next(iter(pages.values()))}
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for name, page in pages.items():
        own = json.loads(json.dumps(page).replace(SCHEMAS, f"{SCHEMAS}{name}."))
        paths |= {f"/{name}{path}": entry for path, entry in own["paths"].items()}
        found = own.get("components", {}).get("schemas", {})
        schemas |= {f"{name}.{schema}": entry for schema, entry in found.items()}
    return {
        **whole,
        "paths": paths,
        "components": {**whole.get("components", {}), "schemas": schemas},
    }
