"""Types and messages that settings, thresholds and parameters share."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import NoDecode


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


def split_list(value: Any) -> Any:
    """The items of a list that is written as text: with commas, or as JSON.

    >>> split_list("adwin, kswin")
    ['adwin', 'kswin']
    >>> split_list('["adwin"]'), split_list("")
    (['adwin'], [])
    """
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"neither a list with commas nor JSON ({error.msg})") from error
    return [item.strip() for item in value.split(",") if item.strip()]


def _listed(value: Any) -> Any:
    """One number is a list of one."""
    return [value] if isinstance(value, int | float) else split_list(value)


def _growing(value: tuple[float, ...]) -> tuple[float, ...]:
    """Percentages of a part of the requests, without the 100 that they may end with."""
    shares = value[:-1] if value[-1:] == (100.0,) else value
    if value and not shares:
        raise ValueError("100 alone is all at once: leave it empty, or begin with a smaller share")
    if any(not low < high for low, high in pairwise((0.0, *shares, 100.0))):
        raise ValueError("growing percentages are needed, above 0 and up to 100")
    return shares


Shares = Annotated[tuple[Float, ...], NoDecode, BeforeValidator(_listed), AfterValidator(_growing)]

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
