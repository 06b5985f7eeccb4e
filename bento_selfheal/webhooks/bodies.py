"""What a webhook says of an event: plain JSON, or as Slack and PagerDuty read it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bento_selfheal.config.webhooks.webhook import Webhook
from bento_selfheal.core.log.told import told
from bento_selfheal.core.records import Event

LONGEST_SUMMARY = 1024
"""Of PagerDuty."""
CRITICAL = {"step_failing", "one_class", "refused", "begun_anew", "dropped"}
WARNING = {
    "retrain_needed", "rollback", "drifting", "quarantine", "new_class", "one_sided",
    "feed_failing", "webhook_failing", "webhook_gave_up", "webhook_lost", "segment_held_back",
    "segment_rolled_back", "thresholds_refused", "rows_set_aside", "unreported_lost",
}  # fmt: skip
ENDS = {
    "step_recovered": "step_failing", "feed_recovered": "feed_failing",
    "webhook_recovered": "webhook_failing", "segment_released": "segment_held_back",
}  # fmt: skip
"""Kinds of events that say that another one is over."""
ABOUT = ("feed", "hook", "segment")
"""What tells two incidents of a kind apart."""


@dataclass(frozen=True)
class Service:
    """Whose events they are."""

    store: str
    """The store's own id."""
    model: str
    """Tag of the package that serves."""
    name: str = ""
    """Name of the model in a service of several."""


def id_of(event: Event, service: Service) -> str:
    """The id of an event for its receivers: the same whenever it is sent again."""
    return f"{service.store}-{event.seq}"


def body_of(hook: Webhook, event: Event, service: Service) -> dict[str, Any]:
    """The body for a webhook, as JSON values."""
    return BODIES[hook.template](hook, event, service)


def _words(event: Event) -> str:
    return told({"kind": event.kind, "detail": event.detail}) or event.kind


def _time(event: Event) -> str:
    return datetime.fromtimestamp(event.time, UTC).isoformat(timespec="milliseconds")


def _json(hook: Webhook, event: Event, service: Service) -> dict[str, Any]:
    """As Standard Webhooks recommends: type, timestamp and data."""
    name = {"name": service.name} if service.name else {}
    return {
        "id": id_of(event, service),
        "type": event.kind,
        "timestamp": _time(event),
        "text": _words(event),
        "service": {"store": service.store, "model": service.model, **name},
        "data": {"seq": event.seq, "batch": event.batch, **event.detail},
    }


def _slack(hook: Webhook, event: Event, service: Service) -> dict[str, Any]:
    kind = event.kind.replace("_", " ")
    words = _words(event)
    for mark, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        words = words.replace(mark, escaped)
    return {"text": f"*{kind}* · {service.model}\n{words}"}


def _pagerduty(hook: Webhook, event: Event, service: Service) -> dict[str, Any]:
    """A trigger, or the resolution of the one that it ends (Events API v2)."""
    about = next((str(event.detail[name]) for name in ABOUT if name in event.detail), "")
    begun = ENDS.get(event.kind, event.kind)
    pairs = begun in ENDS.values()
    kind = event.kind
    return {
        "routing_key": hook.secret.get_secret_value(),
        "event_action": "resolve" if kind in ENDS else "trigger",
        "dedup_key": f"{service.store}/{begun}/{about}" if pairs else id_of(event, service),
        "payload": {
            "summary": f"{service.model}: {_words(event)}"[:LONGEST_SUMMARY],
            "source": socket.gethostname(),
            "severity": "critical" if kind in CRITICAL else
            "warning" if kind in WARNING else "info",
            "timestamp": _time(event),
            "component": service.name or service.model,
            "class": kind,
            "custom_details": {"seq": event.seq, "batch": event.batch, **event.detail},
        },
    }  # fmt: skip


BODIES: Mapping[str, Callable[[Webhook, Event, Service], dict[str, Any]]] = {
    "json": _json, "slack": _slack, "pagerduty": _pagerduty,
}  # fmt: skip
