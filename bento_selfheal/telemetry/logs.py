"""Log lines alongside BentoML's own: in its format, or as JSON with the ids of the trace."""

from __future__ import annotations

import copy
import logging
import sys
from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id, get_current_span
from pythonjsonlogger.json import JsonFormatter

from bento_selfheal.config.groups import LogFormat
from bento_selfheal.core.models.current import MODEL

OURS = "bento_selfheal"


class JsonLines(JsonFormatter):
    """One JSON object per line: level, logger, message and time; the exception, and the current
    span's trace_id and span_id, if there are any."""

    def __init__(self) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            timestamp="time",
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Add the ids of the span in which the line is written."""
        if model := MODEL.get():
            log_data["model"] = model
        span = get_current_span().get_span_context()
        if span.is_valid:
            log_data["trace_id"] = format_trace_id(span.trace_id)
            log_data["span_id"] = format_span_id(span.span_id)
        return log_data


class _OfModel(logging.Handler):
    """Begins a line with the model that it is about, where there are several."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__(handler.level)
        self._handler = handler

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a line on, with its model."""
        if model := MODEL.get():
            record = copy.copy(record)
            record.msg = f"[{model}] {record.msg!s}"
        self._handler.handle(record)


def log_with_bentoml(log_format: LogFormat) -> None:
    """Write our log lines where BentoML writes its own.

    Args:
        log_format: ``plain`` for BentoML's format, or ``json``.
    """
    # BentoML's handlers are attached to its own logger alone.
    bentoml_log, ours = logging.getLogger("bentoml"), logging.getLogger(OURS)
    ours.handlers = [_OfModel(handler) for handler in bentoml_log.handlers]
    if log_format == "json":
        handler = logging.StreamHandler(sys.stdout)  # where BentoML's go
        handler.setFormatter(JsonLines())
        ours.handlers = [handler]
    ours.setLevel(bentoml_log.getEffectiveLevel())
    ours.propagate = False
