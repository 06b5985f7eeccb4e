"""Types and messages that settings, thresholds and parameters share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

SECRET = ("_tokens", "_key")
"""Ends of the names of settings whose values no message may show."""


def describe(error: ValidationError) -> str:
    """One line for each wrong field: its name, what is wrong, and the value."""
    return "; ".join(_described(item) for item in error.errors())


def _described(item: Any) -> str:
    said = f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
    secret = item["loc"] and str(item["loc"][0]).endswith(SECRET)
    return said if secret else f"{said} (got {item['input']!r})"
