"""Users' functions, imported by the name that a package or a rule keeps of them."""

from __future__ import annotations

import importlib
from typing import Any


def import_function(path: str) -> Any:
    """What ``module:function`` names.

    Raises:
        ValueError: It is not of that form, or cannot be imported; the message says which.

    >>> import_function("math:hypot")(3, 4)
    5.0
    """
    module, colon, name = path.partition(":") if isinstance(path, str) else ("", "", "")
    if not colon:
        raise ValueError(f"{path!r} is not of the form 'module:function'")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot import {path!r}: {error}") from error
