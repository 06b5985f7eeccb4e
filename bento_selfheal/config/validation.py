"""Types and messages that settings, thresholds and parameters share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationError

# Bounds far beyond any use: what lies outside is a slip, and infinity stops whatever it reaches.
MOST = 1_000_000_000
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Chance = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=MOST, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0.001, le=86_400, allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0, le=36_500, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MOST)]
NotNegativeCount = Annotated[int, Field(ge=0, le=MOST)]

SECRET = ("_tokens", "_key")
"""Ends of the names of settings whose values no message may show."""


def describe(error: ValidationError) -> str:
    """One line for each wrong field: its name, what is wrong, and the value."""
    return "; ".join(_described(item) for item in error.errors())


def _described(item: Any) -> str:
    said = f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
    secret = item["loc"] and str(item["loc"][0]).endswith(SECRET)
    return said if secret else f"{said} (got {item['input']!r})"
