"""How long a server asks to wait."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds_of(retry_after: str | None) -> float | None:
    """A ``Retry-After`` header in seconds from now; None where it says nothing.

    Source: RFC 9110, section 10.2.3: whole seconds, or a date.
    """
    given = (retry_after or "").strip()
    if given.isascii() and given.isdigit() and len(given) < 10:
        return float(given)
    try:
        return max((parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None
