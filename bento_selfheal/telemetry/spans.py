"""Spans: opened, linked across processes, and never in the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import INVALID_SPAN, Link, Span, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bento_selfheal.telemetry.names import LINKED, MAX_LINKS, SCOPE


class Telemetry:
    """The spans of one process.

    Args:
        provider: Where spans go; None makes none.
        enabled: Whether any span is worth building; the hot path asks this first.
    """

    def __init__(self, provider: TracerProvider | None = None, *, enabled: bool = True) -> None:
        self.enabled = enabled and provider is not None
        self._tracer = None if provider is None else provider.get_tracer(SCOPE)

    @contextmanager
    def span(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        links: Iterable[str | None] = (),
    ) -> Iterator[Span]:
        """Open a span; ``links`` are traceparents of what led here."""
        if self._tracer is None:
            yield INVALID_SPAN
            return
        made = [link for parent in list(links)[:MAX_LINKS] if (link := _link(parent))]
        told = dict(attributes or {})
        if made:
            ids = dict.fromkeys(trace.format_trace_id(link.context.trace_id) for link in made)
            told[LINKED] = list(ids)
        with self._tracer.start_as_current_span(name, attributes=told, links=made) as span:
            yield span

    @staticmethod
    def traceparent() -> str | None:
        """The current span as a W3C traceparent; None when it is not recorded."""
        if not trace.get_current_span().get_span_context().trace_flags.sampled:
            return None
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        return carrier.get("traceparent")


@contextmanager
def within(traceparent: str | None) -> Iterator[None]:
    """Let log lines of the block carry the ids of a span that has ended."""
    if traceparent is None:
        yield
        return
    token = context.attach(TraceContextTextMapPropagator().extract({"traceparent": traceparent}))
    try:
        yield
    finally:
        context.detach(token)


def _link(traceparent: str | None) -> Link | None:
    if traceparent is None:
        return None
    parent = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    found = trace.get_current_span(parent).get_span_context()
    return Link(found) if found.is_valid else None
