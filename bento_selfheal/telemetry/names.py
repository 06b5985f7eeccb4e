"""Every span, attribute and metric name, and the way out for all of them.

Spans come from BentoML's own tracer provider, so a span opened inside a request joins that
request's trace. Between processes a traceparent travels with the row in the store, and the
span on the other side links to it. Telemetry never raises and never makes a prediction wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from opentelemetry.metrics import CallbackOptions, Meter, Observation

SCOPE = "bento_selfheal"

PREDICT = "selfheal.predict"
FEEDBACK = "selfheal.feedback"
JOIN = "selfheal.join"
SIGNAL = "selfheal.signal"
HEAL = "selfheal.heal"
GATE = "selfheal.gate"
SNAPSHOT = "selfheal.snapshot"
PROMOTE = "selfheal.promote"
ROLLBACK = "selfheal.rollback"
RELOAD = "selfheal.reload"

SPANS = {
    PREDICT: "One request to `/predict` is answered; below BentoML's span of the request.",
    FEEDBACK: "One request to `/feedback` is checked and its labels are made durable; below "
    "BentoML's span of the request.",
    SIGNAL: "FIDI and conflicts are read on one batch of the prediction log.",
    JOIN: "One batch of labels meets its predictions; links to the feedback that brought them.",
    HEAL: "One heal, from the snapshot before it to the one after; links to the feedback whose "
    "labels led to it.",
    GATE: "Challenger and champion are compared on labels that neither has trained on.",
    SNAPSHOT: "An adapter is written to the model store.",
    PROMOTE: "The gate let a challenger through; links to the feedback that decided.",
    ROLLBACK: "A promotion is undone: by health, with links to the feedback that decided, or by "
    "an operator, below BentoML's span of the request.",
    RELOAD: "A process loads and verifies what is to serve; links to the promotion or rollback.",
}

ROWS = "selfheal.rows"
VERSION = "selfheal.version"
BATCH = "selfheal.batch"
REASON = "selfheal.reason"
OUTCOME = "selfheal.outcome"
RECIPE = "selfheal.recipe"
HEAL_NUMBER = "selfheal.heal.number"
PHASE = "selfheal.snapshot.phase"
Z = "selfheal.signal.z"
CONFLICTS = "selfheal.signal.conflicts"
DRIFTING = "selfheal.signal.drifting"
ITEMS = "selfheal.feedback"
LOSS = "selfheal.loss"
EVIDENCE = "selfheal.gate"
STATE = "selfheal.state"
THREAD = "selfheal.thread"
LINKED = "selfheal.link.trace_ids"
STATUS_CODE = "http.response.status_code"

ATTRIBUTES = {
    ROWS: ("int", "Rows, or labels, that the step worked on"),
    VERSION: ("int", "Snapshot version that the step is about"),
    BATCH: ("int", "Number of the batch: of the prediction log for signals, else of labels"),
    REASON: ("string", "Why, in words, with the figures that decided; no feature value"),
    OUTCOME: ("string", "What came of it: a heal is `trained`, `promoted` or `refused`, the gate "
              "says `promote` or `wait`, an item of feedback is `accepted`, `known`, `unknown` or "
              "in `conflict`"),
    RECIPE: ("string", "How the heal trained: `replay` or `article`"),
    HEAL_NUMBER: ("int", "Number of the heal since the package was deployed"),
    PHASE: ("string", "What the snapshot holds: `pre-heal` or `post-heal`"),
    Z: ("double", "FIDI: largest z of a sensitive feature"),
    CONFLICTS: ("int", "Rows of the batch in conflict with a rule"),
    DRIFTING: ("boolean", "Whether z or conflicts are over their threshold"),
    f"{ITEMS}.<outcome>": ("int", "Items of feedback with this outcome"),
    f"{LOSS}.<part>": ("double", "Loss of the heal's last step: `real` on labels, `total`; of the "
                       "`article` recipe also `consistency` and `entropy`. Of the `replay` recipe "
                       "also `moved`, the adapter's distance from the packaged weights, and "
                       "`lean`, the anchor's share of the targets"),
    f"{EVIDENCE}.<figure>": ("double", "What the gate knows: `log_e` and `log_e_needed`, `rows`, "
                             "`mean_gain` with its `standard_error`, number of the `trial`"),
    LINKED: ("string[]", "Trace ids of the span's links, for backends that drop links"),
    STATUS_CODE: ("int", "Status of the answers that `selfheal.refused` counts"),
    STATE: ("string", "The state that a value of the metric `selfheal.state` is about"),
    THREAD: ("string", "Name of the background thread"),
}  # fmt: skip
"""Attribute → type and meaning; what stands in angle brackets varies."""

MAX_LINKS = 32

Kind = Literal["gauge", "counter", "updowncounter"]


@dataclass(frozen=True)
class Metric:
    """One figure: its OpenTelemetry name, unit and meaning, and where the status has it."""

    name: str
    unit: str
    description: str
    path: tuple[str, ...] = ()
    kind: Kind = "gauge"
    attribute: str = ""
    """What tells its values apart, where it has several."""

    @property
    def prometheus(self) -> str:
        """Its name on ``/metrics``: what OpenTelemetry's rules for Prometheus make of it."""
        ratio = self.unit == "1" and self.kind == "gauge"
        suffix = "_ratio" if ratio else "_seconds" if self.unit == "s" else ""
        return self.name.replace(".", "_") + suffix + "_total" * (self.kind == "counter")

    @property
    def label(self) -> str:
        """Its attribute as a label on ``/metrics``."""
        return self.attribute.rpartition(".")[2]

    def observe(
        self, meter: Meter, read: Callable[[CallbackOptions], Iterable[Observation]]
    ) -> None:
        """Let OpenTelemetry read it when it collects."""
        make = {
            "gauge": meter.create_observable_gauge,
            "counter": meter.create_observable_counter,
            "updowncounter": meter.create_observable_up_down_counter,
        }[self.kind]
        make(self.name, callbacks=[read], unit=self.unit, description=self.description)


METRICS = (
    Metric("selfheal.signal.z", "{sigma}", "FIDI: largest z of a sensitive feature",
           ("signals", "z")),
    Metric("selfheal.signal.conflicts", "{row}", "Rows of the newest batch in conflict with a rule",
           ("signals", "conflicts")),
    Metric("selfheal.threshold.z", "{sigma}", "z above which a feature has drifted",
           ("signals", "fidi_threshold")),
    Metric("selfheal.threshold.conflicts", "{row}", "Conflicts in one batch that ask for a heal",
           ("signals", "conflict_min")),
    Metric("selfheal.champion.accuracy", "1", "Accuracy of what was served, newest labelled batch",
           ("last", "champion", "accuracy")),
    Metric("selfheal.champion.f1", "1", "F1 of what was served, newest labelled batch",
           ("last", "champion", "f1")),
    Metric("selfheal.shadow.accuracy", "1", "Accuracy of the frozen shadow on the same rows",
           ("last", "shadow", "accuracy")),
    Metric("selfheal.shadow.f1", "1", "F1 of the frozen shadow on the same rows",
           ("last", "shadow", "f1")),
    Metric("selfheal.lift.mean", "1", "Accuracy of champion less shadow, mean over labelled "
           "batches", ("lift", "mean")),
    Metric("selfheal.lift.low", "1", "Lower end of its 95 % interval", ("lift", "low")),
    Metric("selfheal.lift.high", "1", "Upper end of its 95 % interval", ("lift", "high")),
    Metric("selfheal.label.delay", "s", "Mean time from answer to label, newest labelled batch",
           ("labels", "delay_seconds")),
    Metric("selfheal.label.waiting", "{label}", "Labels that wait for their prediction",
           ("labels", "waiting"), kind="updowncounter"),
    Metric("selfheal.label.joined", "{label}", "Labels joined with their row",
           ("labels", "joined"), kind="counter"),
    Metric("selfheal.label.unmatched", "{label}", "Labels given up: their prediction never came",
           ("labels", "unmatched"), kind="counter"),
    Metric("selfheal.predictions", "{row}", "Predictions that the runner has read from the log",
           ("predicted_rows",), kind="counter"),
    Metric("selfheal.request.unread", "{request}", "Logged requests that the runner has still to "
           "read", ("unread", "requests"), kind="updowncounter"),
    Metric("selfheal.label.unread", "{label}", "Labels that the runner has still to read",
           ("unread", "labels"), kind="updowncounter"),
    Metric("selfheal.heals", "{heal}", "Heals", ("heals",), kind="counter"),
    Metric("selfheal.promotions", "{promotion}", "Promotions", ("promotions",), kind="counter"),
    Metric("selfheal.rollbacks", "{rollback}", "Rollbacks, by health or by an operator",
           ("rollbacks",), kind="counter"),
    Metric("selfheal.serving.version", "{version}", "Snapshot version that serves",
           ("serving", "version")),
)  # fmt: skip
"""The runner's figures, as its status has them."""

STATE_METRIC = Metric(
    "selfheal.state", "1", "1 for the state that holds, 0 for the others",
    kind="updowncounter", attribute=STATE,
)  # fmt: skip
STATES = ("HEALTHY", "DRIFTING", "HEALING", "RETRAIN_NEEDED", "ROLLED_BACK")

# A predict worker's own figures.
ALIVE_METRIC = Metric(
    "selfheal.runner.alive", "{runner}", "1 while a runner holds the lease, 0 when none heals",
    ("runner_alive",),
)  # fmt: skip
FEEDBACK_METRIC = Metric(
    "selfheal.feedback", "{label}", "Items of feedback, by what became of them",
    kind="counter", attribute=OUTCOME,
)  # fmt: skip
REFUSED_METRIC = Metric(
    "selfheal.refused", "{request}", "Requests refused before anything looked at what they ask: no "
    "token, a wrong one, too large, too slow, by the status of the answer",
    kind="counter", attribute=STATUS_CODE,
)  # fmt: skip
QUEUE_METRIC = Metric(
    "selfheal.queue", "{row}", "Predictions that wait for the store", kind="updowncounter"
)
DROPPED_METRIC = Metric(
    "selfheal.dropped", "{row}", "Predictions that the log dropped: the store stalled",
    kind="counter",
)  # fmt: skip
# Of every process: its background threads.
THREAD_ALIVE_METRIC = Metric(
    "selfheal.thread.alive", "{thread}", "1 while a background thread runs, 0 when it is dead",
    attribute=THREAD,
)  # fmt: skip
THREAD_FAILURES_METRIC = Metric(
    "selfheal.thread.failures", "{failure}", "Errors of a background thread; it tries again",
    kind="counter", attribute=THREAD,
)  # fmt: skip

ALL_METRICS = (
    STATE_METRIC, *METRICS, ALIVE_METRIC, FEEDBACK_METRIC, REFUSED_METRIC, QUEUE_METRIC,
    DROPPED_METRIC, THREAD_ALIVE_METRIC, THREAD_FAILURES_METRIC,
)  # fmt: skip
