"""Types and messages that settings, thresholds and parameters share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError


def _number(value: Any) -> Any:
    """A setting that is a number; true would count as 1."""
    if isinstance(value, bool):
        raise ValueError("a number is needed")
    return value


Int = Annotated[int, BeforeValidator(_number)]
Float = Annotated[float, BeforeValidator(_number)]
# Bounds far beyond any use: what lies outside is a slip, and infinity stops whatever it reaches.
MOST = 1_000_000_000
Share = Annotated[Float, Field(ge=0, le=1, allow_inf_nan=False)]
LEAST_EXPLORED = 0.001
"""Each label of an explored row stands for one part in so many rows, which bounds its weight."""


def _explored(value: float) -> float:
    if 0 < value < LEAST_EXPLORED:
        raise ValueError(f"0 or at least {LEAST_EXPLORED} is needed")
    return value


Explored = Annotated[Share, AfterValidator(_explored)]
Chance = Annotated[Float, Field(gt=0, lt=1, allow_inf_nan=False)]
Positive = Annotated[Float, Field(gt=0, le=MOST, allow_inf_nan=False)]
NotNegative = Annotated[Float, Field(ge=0, le=MOST, allow_inf_nan=False)]
Seconds = Annotated[Float, Field(ge=0.001, le=86_400, allow_inf_nan=False)]
Days = Annotated[Float, Field(gt=0, le=36_500, allow_inf_nan=False)]
Count = Annotated[Int, Field(ge=1, le=MOST)]
NotNegativeCount = Annotated[Int, Field(ge=0, le=MOST)]

SECRET = ("token", "key", "secret", "url")
"""Parts of the names of settings whose values no message may show."""
ROLES = {"predict", "feedback", "operate"}
"""Tables of tokens, which may stand in the wrong file."""
SHOWN = 100
"""Characters of a wrong value, or of its name, that a message shows."""
MOST_ERRORS = 5
WORDED = {"tuple_type": "a list is needed", "model_type": "a table of settings is needed"}
"""What is wrong, where pydantic says it in words of Python."""


def describe(error: ValidationError) -> str:
    """One line for each wrong field: its name, what is wrong, and the value; no secret is shown."""
    wrong = error.errors()
    more = [f"and {len(wrong) - MOST_ERRORS} more"] if len(wrong) > MOST_ERRORS else []
    return "; ".join([*map(_described, wrong[:MOST_ERRORS]), *more])


def cut(text: str, most: int = SHOWN) -> str:
    """A text that is too long for a message, cut."""
    return text if len(text) <= most else text[:most] + "…"


def _described(item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    wrong = WORDED.get(item["type"]) or cut(item["msg"].removeprefix("Value error, "), 4 * SHOWN)
    if not path:
        return wrong  # of several settings, which it names itself
    said = f"{cut('.'.join(path))}: {wrong}"
    hidden = path == ["webhooks"] or any(
        part in ROLES or any(s in part.lower() for s in SECRET) for part in path
    )
    return said if hidden else f"{said} (got {_shown(item['input'])})"


def _shown(value: Any) -> str:
    """A wrong value, cut; what is below it might be a secret."""
    if isinstance(value, dict):
        return "a table"
    try:
        return cut(repr(value))
    except ValueError:  # Python writes no integer of thousands of digits
        return "a very large number"
