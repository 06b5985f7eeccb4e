"""Every span, attribute and metric name, and the way out for all of them.

Spans come from BentoML's own tracer provider, so a span opened inside a request joins that
request's trace. Between processes a traceparent travels with the row in the store, and the
span on the other side links to it. Telemetry never raises and never makes a prediction wait.
"""

from __future__ import annotations

from bento_selfheal.telemetry.metric import Metric

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
    PREDICT: "One request to `/predict` is answered; a child of BentoML's span of the request.",
    FEEDBACK: "One request to `/feedback` is checked and its labels are made durable; a child of "
    "BentoML's span of the request.",
    SIGNAL: "FIDI, conflicts and distances are computed on one batch of the prediction log.",
    JOIN: "One batch of labels is joined with its predictions; links to the feedback requests.",
    HEAL: "One heal, from the snapshot before it to the snapshot after it; links to the feedback "
    "requests whose labels led to it.",
    GATE: "Challenger and champion are compared on labels that neither was trained on.",
    SNAPSHOT: "An adapter is written to the model store.",
    PROMOTE: "A challenger that passed the gate is promoted; links to the feedback that decided.",
    ROLLBACK: "A promotion is undone: by the health check, with links to the feedback that "
    "decided, or by an operator, as a child of BentoML's span of the request.",
    RELOAD: "A process verifies and loads a snapshot to serve; links to the promotion or rollback.",
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
DISTANCE = "selfheal.signal.distance"
DRIFTING = "selfheal.signal.drifting"
ITEMS = "selfheal.feedback"
LOSS = "selfheal.loss"
EVIDENCE = "selfheal.gate"
STATE = "selfheal.state"
THREAD = "selfheal.thread"
SEGMENT = "selfheal.segment"
WEBHOOK = "selfheal.webhook"
CANARY = "selfheal.canary"
CANDIDATE = "selfheal.candidate"
MODEL = "selfheal.model"
LINKED = "selfheal.link.trace_ids"
STATUS_CODE = "http.response.status_code"

ATTRIBUTES = {
    ROWS: ("int", "Number of rows, or labels, that the step processed"),
    VERSION: ("int", "Version of the snapshot that the step is about"),
    BATCH: ("int", "Number of the batch: of predictions for signals, otherwise of labels"),
    REASON: ("string", "The reason in words, with the figures that decided; no feature values"),
    OUTCOME: ("string", "The outcome: a heal is `trained`, `promoted` or `refused`, the gate "
              "says `promote` or `wait`, an item of feedback is `accepted`, `known`, `unknown` or "
              "in `conflict`"),
    RECIPE: ("string", "How the heal was trained: `replay`, `race` or `article`"),
    HEAL_NUMBER: ("int", "Number of the heal since the package was deployed"),
    PHASE: ("string", "The phase of the snapshot: `pre-heal` or `post-heal`"),
    Z: ("double", "FIDI: largest z of a sensitive feature"),
    DISTANCE: ("double", "Largest distance of categories, missing values or the hidden vector"),
    CONFLICTS: ("int", "Rows of the batch in conflict with a rule"),
    DRIFTING: ("boolean", "Whether z, the conflicts or the distance exceed their threshold"),
    f"{ITEMS}.<outcome>": ("int", "Number of feedback items with this outcome"),
    f"{LOSS}.<part>": ("double", "Loss of the heal's last step: `real` on labels, `total`; of the "
                       "`article` recipe also `consistency` and `entropy`. Of the recipes "
                       "`replay` and `race` also `moved`, the adapter's distance from the "
                       "packaged weights, and `lean`, the anchor's share of the targets"),
    f"{EVIDENCE}.<figure>": ("double", "The gate's figures: `log_e` and `log_e_needed`, `rows`, "
                             "`mean_gain` with its `standard_error`, number of the `trial`"),
    LINKED: ("string[]", "Trace ids of the span's links, for backends that drop links"),
    STATUS_CODE: ("int", "HTTP status of the requests that `selfheal.refused` counts"),
    STATE: ("string", "State that a value of the metric `selfheal.state` is about"),
    THREAD: ("string", "Name of the background thread"),
    SEGMENT: ("string", "Name of the segment, by the setting `segments`; 100 at most"),
    WEBHOOK: ("string", "Name of the webhook, by the setting `webhooks`; 20 at most"),
    CANARY: ("boolean", "Whether the snapshot that answered is a canary, by the setting `canary`"),
    CANDIDATE: ("string", "Tag of the candidate, while it is on its ramp"),
    MODEL: ("string", "Name of the model that a metric is about; only where one service serves "
            "several. It is the label `model` on `/metrics`"),
}  # fmt: skip
"""Attribute → type and meaning; the part in angle brackets varies."""

MAX_LINKS = 32

METRICS = (
    Metric("selfheal.signal.z", "{sigma}", "FIDI: largest z of a sensitive feature",
           ("signals", "z")),
    Metric("selfheal.signal.conflicts", "{row}",
           "Rows of the newest batch that conflict with a rule", ("signals", "conflicts")),
    Metric("selfheal.signal.distance", "{sigma}", "Largest distance of a column's categories or "
           "missing values, or of the hidden vector, from training", ("signals", "distance")),
    Metric("selfheal.one_class", "{alarm}", "1 while every row is given the same class, which the "
           "packaged model would not do, else 0", ("one_class", "alarm")),
    Metric("selfheal.one_sided", "{alarm}", "1 while labels come for one class only, so that "
           "nothing is promoted on them, else 0", ("one_sided", "alarm")),
    Metric("selfheal.threshold.z", "{sigma}", "z above which a feature has drifted",
           ("signals", "fidi_threshold")),
    Metric("selfheal.threshold.distance", "{sigma}", "Distance above which they differ; none where "
           "all inputs are numbers", ("signals", "distance_limit")),
    Metric("selfheal.threshold.conflicts", "{row}",
           "Conflicts in one batch from which a heal is requested", ("signals", "conflict_min")),
    Metric("selfheal.champion.accuracy", "1", "Accuracy of the served model, newest labelled batch",
           ("last", "champion", "accuracy")),
    Metric("selfheal.champion.f1", "1", "F1 of the served model, newest labelled batch",
           ("last", "champion", "f1")),
    Metric("selfheal.shadow.accuracy", "1",
           "Accuracy of the baseline, the model as packaged, on the same rows",
           ("last", "shadow", "accuracy")),
    Metric("selfheal.shadow.f1", "1", "F1 of the baseline on the same rows",
           ("last", "shadow", "f1")),
    Metric("selfheal.majority.accuracy", "1",
           "Accuracy of always answering the commonest class, all labelled rows", ("majority",)),
    Metric("selfheal.lift.mean", "1", "Accuracy of the served model minus the baseline's, mean "
           "over labelled batches", ("lift", "mean")),
    Metric("selfheal.lift.low", "1", "Lower end of its 95 % interval", ("lift", "low")),
    Metric("selfheal.lift.high", "1", "Upper end of its 95 % interval", ("lift", "high")),
    Metric("selfheal.champion.auc", "1", "AUC of what was served, newest 2,000 labelled rows "
           "(1,000 of more than two classes)", ("newest", "ranking", "served", "auc")),
    Metric("selfheal.champion.average_precision", "1", "Average precision on the same rows",
           ("newest", "ranking", "served", "average_precision")),
    Metric("selfheal.shadow.auc", "1", "AUC of the baseline on the same rows",
           ("newest", "ranking", "frozen", "auc")),
    Metric("selfheal.shadow.average_precision", "1", "Average precision of the baseline there",
           ("newest", "ranking", "frozen", "average_precision")),
    Metric("selfheal.champion.recall", "1", "Share of the second class that the alarms in force "
           "caught, same rows", ("newest", "alarms", "recall")),
    Metric("selfheal.shadow.recall", "1", "Share that as many alarms by the baseline would have "
           "caught", ("newest", "alarms", "frozen_recall")),
    Metric("selfheal.alarms", "1", "Share of these rows for which an alarm was raised",
           ("newest", "alarms", "share")),
    Metric("selfheal.label.delay", "s", "Mean time from prediction to label, newest labelled batch",
           ("labels", "delay_seconds")),
    Metric("selfheal.label.waiting", "{label}", "Labels whose prediction has not been read yet",
           ("labels", "waiting"), kind="updowncounter"),
    Metric("selfheal.label.early", "{label}", "Labels held until their row is old enough, where "
           "one class is never reported", ("unreported", "early"), kind="updowncounter"),
    Metric("selfheal.label.age", "s", "Age of the newest row that counts there",
           ("unreported", "age_seconds")),
    Metric("selfheal.label.lost", "{request}",
           "Requests that left the log before they were old enough",
           ("unreported", "lost"), kind="counter"),
    Metric("selfheal.label.joined", "{label}", "Labels joined with their row",
           ("labels", "joined"), kind="counter"),
    Metric("selfheal.label.unmatched", "{label}",
           "Labels given up because their prediction is not in the log",
           ("labels", "unmatched"), kind="counter"),
    Metric("selfheal.label.retracted", "{label}", "Labels that their source took back",
           ("labels", "retracted"), kind="counter"),
    Metric("selfheal.label.new_class", "{label}",
           "Labels of classes that the packaged model does not have",
           ("labels", "new_class"), kind="counter"),
    Metric("selfheal.predictions", "{row}", "Rows that the runner has read from the prediction log",
           ("predicted_rows",), kind="counter"),
    Metric("selfheal.request.unread", "{request}",
           "Logged requests that the runner has not read yet",
           ("unread", "requests"), kind="updowncounter"),
    Metric("selfheal.label.unread", "{label}", "Labels that the runner has not read yet",
           ("unread", "labels"), kind="updowncounter"),
    Metric("selfheal.runner.cpu", "1", "Share of the processor time asked for that the runner got, "
           "last ten seconds in which it asked for some", ("cpu", "share")),
    Metric("selfheal.heals", "{heal}", "Heals", ("heals",), kind="counter"),
    Metric("selfheal.promotions", "{promotion}", "Promotions", ("promotions",), kind="counter"),
    Metric("selfheal.rollbacks", "{rollback}", "Rollbacks, by the health check or by an operator",
           ("rollbacks",), kind="counter"),
    Metric("selfheal.serving.version", "{version}", "Version of the snapshot that serves",
           ("serving", "version")),
    Metric("selfheal.canary.version", "{version}", "Version of the snapshot that answers a share "
           "of the requests first; none while there is none", ("canary", "version")),
    Metric("selfheal.canary.share", "1", "Share of the requests that it answers",
           ("canary", "share")),
    Metric("selfheal.canary.labels", "{label}", "Labelled rows that it answered, at this step",
           ("canary", "labels")),
    Metric("selfheal.canary.evidence", "1", "Natural logarithm of the evidence that it is worse "
           "than what answers the others", ("canary", "log_e")),
)  # fmt: skip
"""The runner's figures, as its status has them."""

STATE_METRIC = Metric(
    "selfheal.state", "1", "1 for the current state, 0 for all others",
    kind="updowncounter", attribute=STATE,
)  # fmt: skip
STATES = ("HEALTHY", "DRIFTING", "HEALING", "RETRAIN_NEEDED", "ROLLED_BACK")

# A predict worker's own figures.
ALIVE_METRIC = Metric(
    "selfheal.runner.alive", "{runner}", "1 while a healing runner holds the lease, else 0",
    ("runner_alive",),
)  # fmt: skip
UNREAD_AGE_METRIC = Metric(
    "selfheal.unread.age", "s", "How long the oldest request or label has waited for the runner to "
    "read it; from a minute on it is behind", ("unread", "seconds"),
)  # fmt: skip
FEEDBACK_METRIC = Metric(
    "selfheal.feedback", "{label}", "Feedback items by outcome",
    kind="counter", attribute=OUTCOME,
)  # fmt: skip
REFUSED_METRIC = Metric(
    "selfheal.refused", "{request}", "Requests refused before they were handled (no token, a "
    "wrong one, too large, too slow), by the status of the answer",
    kind="counter", attribute=STATUS_CODE,
)  # fmt: skip
QUEUE_METRIC = Metric(
    "selfheal.queue",
    "{row}",
    "Predictions that wait to be written to the store",
    kind="updowncounter",
)
DROPPED_METRIC = Metric(
    "selfheal.dropped", "{row}", "Predictions that were not logged because the store was too slow",
    kind="counter",
)  # fmt: skip
SERVES_METRIC = Metric(
    "selfheal.serves", "{model}", "1 while a worker serves the model, 0 while it cannot; only "
    "where one service serves several, and on `/metrics` alone", attribute=MODEL,
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
