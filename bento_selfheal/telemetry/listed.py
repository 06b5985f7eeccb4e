"""Metrics of what the status lists (segments, webhooks, candidates), and all metrics together."""

from __future__ import annotations

from bento_selfheal.telemetry.metric import Metric
from bento_selfheal.telemetry.names import (
    ALIVE_METRIC,
    CANDIDATE,
    DROPPED_METRIC,
    FEEDBACK_METRIC,
    METRICS,
    QUEUE_METRIC,
    REFUSED_METRIC,
    SEGMENT,
    SERVES_METRIC,
    STATE_METRIC,
    THREAD_ALIVE_METRIC,
    THREAD_FAILURES_METRIC,
    UNREAD_AGE_METRIC,
    WEBHOOK,
)

SEGMENT_METRICS = (
    Metric("selfheal.segment.rows", "{row}", "Rows answered in the segment", ("rows",),
           kind="counter", attribute=SEGMENT),
    Metric("selfheal.segment.labels", "{label}", "Labelled rows of the segment", ("labels",),
           kind="counter", attribute=SEGMENT),
    Metric("selfheal.segment.accuracy", "1", "Accuracy served in the segment, all labelled rows",
           ("served",), attribute=SEGMENT),
    Metric("selfheal.segment.lift.mean", "1", "Accuracy served minus the baseline's in the segment",
           ("lift", "mean"), attribute=SEGMENT),
    Metric("selfheal.segment.lift.low", "1", "Lower end of its 95 % interval", ("lift", "low"),
           attribute=SEGMENT),
    Metric("selfheal.segment.lift.high", "1", "Upper end of its 95 % interval", ("lift", "high"),
           attribute=SEGMENT),
    Metric("selfheal.segment.drift", "{sigma}", "How far the segment's share of the rows, or the "
           "answers in it, have moved since training", ("drift",), attribute=SEGMENT),
    Metric("selfheal.segment.left_out", "{segment}", "1 while the segment keeps the answers of the "
           "packaged model because healing made it worse, else 0", ("left_out",),
           attribute=SEGMENT),
)  # fmt: skip
"""Figures of each segment, as `segments` in the runner's status has them."""

CANDIDATE_METRICS = (
    Metric("selfheal.candidate.share", "1", "Share of the requests that the candidate answers",
           ("share",), attribute=CANDIDATE),
    Metric("selfheal.candidate.labels", "{label}", "Labelled rows that the candidate is compared "
           "on", ("labels",), kind="counter", attribute=CANDIDATE),
    Metric("selfheal.candidate.lift", "1", "Accuracy of the candidate minus that of the healed "
           "champion, on the same rows", ("lift", "mean"), attribute=CANDIDATE),
    Metric("selfheal.candidate.evidence", "1", "Natural logarithm of the evidence that the "
           "candidate is better", ("log_e",), attribute=CANDIDATE),
    Metric("selfheal.candidate.failures", "{request}", "Requests that the candidate failed, did "
           "not answer in time, or lost with its process", ("failures",), kind="counter",
           attribute=CANDIDATE),
)  # fmt: skip
"""Figures of each candidate, as `candidates` in the runner's status has them."""

WEBHOOK_METRICS = (
    Metric("selfheal.webhook.delivered", "{event}", "Events that the receiver has taken",
           ("delivered",), kind="counter", attribute=WEBHOOK),
    Metric("selfheal.webhook.failed", "{attempt}", "Failed attempts to tell the receiver; each is "
           "made again", ("failed",), kind="counter", attribute=WEBHOOK),
    Metric("selfheal.webhook.given_up", "{event}", "Events that the receiver never got",
           ("given_up",), kind="counter", attribute=WEBHOOK),
    Metric("selfheal.webhook.waiting", "{event}", "Events that the receiver has not taken yet",
           ("waiting",), kind="updowncounter", attribute=WEBHOOK),
    Metric("selfheal.webhook.age", "s", "Age of the oldest of them, 0 without any",
           ("oldest_seconds",), attribute=WEBHOOK),
)  # fmt: skip
"""Figures of each webhook, as `webhooks` in the runner's status has them."""

LISTS = (
    ("segments", "segment", SEGMENT_METRICS),
    ("webhooks", "name", WEBHOOK_METRICS),
    ("candidates", "tag", CANDIDATE_METRICS),
)
"""Lists in the status, what names an item of each, and the metrics of the items."""

ALL_METRICS = (
    STATE_METRIC, *METRICS, *SEGMENT_METRICS, *WEBHOOK_METRICS, *CANDIDATE_METRICS, ALIVE_METRIC,
    UNREAD_AGE_METRIC, FEEDBACK_METRIC,
    REFUSED_METRIC, QUEUE_METRIC, DROPPED_METRIC, SERVES_METRIC, THREAD_ALIVE_METRIC,
    THREAD_FAILURES_METRIC,
)  # fmt: skip
