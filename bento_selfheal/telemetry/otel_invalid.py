"""``OTEL_*`` values on which the SDK would raise; by the specification they are ignored.

The SDK reads these variables by itself, some of them while it is imported. So a value that it
cannot take is removed from the environment before, with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping

from bento_selfheal.config.validation import cut
from bento_selfheal.telemetry.otel_env import Problem, warn

Check = Callable[[str], bool]
QUEUE, BATCH = "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
QUEUE_SPANS, BATCH_SPANS = 2048, 512
"""What the SDK takes where they are not set."""


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < len(text) < 10


def _is_positive(text: str) -> bool:
    return _is_count(text) and int(text) > 0


def _is_limit(text: str) -> bool:
    return text.lower() == "unset" or _is_count(text)


def _is_milliseconds(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _is_filter(text: str) -> bool:
    return text in ("always_on", "always_off", "trace_based")


LIMITS = (
    "ATTRIBUTE_COUNT_LIMIT", "ATTRIBUTE_VALUE_LENGTH_LIMIT", "SPAN_ATTRIBUTE_COUNT_LIMIT",
    "SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "SPAN_EVENT_COUNT_LIMIT", "SPAN_LINK_COUNT_LIMIT",
    "EVENT_ATTRIBUTE_COUNT_LIMIT", "LINK_ATTRIBUTE_COUNT_LIMIT", "LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
    "LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
)  # fmt: skip
CHECKS: dict[str, tuple[Check, str]] = {
    **{f"OTEL_{name}": (_is_limit, "a whole number") for name in LIMITS},
    **dict.fromkeys(
        (QUEUE, BATCH, "OTEL_BSP_SCHEDULE_DELAY"), (_is_positive, "a positive whole number")
    ),
    "OTEL_METRIC_EXPORT_INTERVAL": (_is_milliseconds, "a positive number of milliseconds"),
    "OTEL_METRIC_EXPORT_TIMEOUT": (_is_milliseconds, "a positive number of milliseconds"),
    "OTEL_METRICS_EXEMPLAR_FILTER": (_is_filter, "always_on, always_off or trace_based"),
}


def invalid(environ: Mapping[str, str]) -> dict[str, Problem]:
    """The variables that the SDK cannot take, each with what is wrong."""
    found = {
        name: Problem(f"{name}={cut(text)} is not {wanted}; it is ignored", f"set it to {wanted}")
        for name, (check, wanted) in CHECKS.items()
        if (text := environ.get(name, "").strip()) and not check(text)
    }
    queue, batch = (
        int(environ[name]) if environ.get(name, "").strip() and name not in found else default
        for name, default in ((QUEUE, QUEUE_SPANS), (BATCH, BATCH_SPANS))
    )
    if batch > queue:
        problem = Problem(
            f"{BATCH}={batch} is more than {QUEUE}={queue}; both are ignored",
            "set both, and the queue to no less than a batch",
        )
        found |= {name: problem for name in (QUEUE, BATCH) if name in environ}
    return found


def clean(environ: MutableMapping[str, str]) -> None:
    """Remove variables that are blank, which count as unset, and those that the SDK cannot take.

    Args:
        environ: The environment of this process, from which the SDK will read.
    """
    for name in [n for n, text in environ.items() if n.startswith("OTEL_") and not text.strip()]:
        del environ[name]
    for name, problem in invalid(environ).items():
        del environ[name]
        warn(problem)
