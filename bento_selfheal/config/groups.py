"""The settings of a running service, grouped by concern. `Settings` combines the groups."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from bento_selfheal.config.parameters import DetectorName, HealParameters
from bento_selfheal.config.unreported import Unreported
from bento_selfheal.config.validation import (
    Chance,
    Count,
    Days,
    Float,
    Int,
    NotNegativeCount,
    Positive,
    Seconds,
    Share,
    Shares,
    split_list,
)

LogFormat = Literal["plain", "json"]
Device = Annotated[str, Field(pattern=r"^(cpu|cuda(:(0|[1-9][0-9]?))?)$")]
KEY_CHARS = 32


class Group(BaseModel):
    """Base of the groups. The text below a setting is its description in the documentation."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ServingSettings(Group):
    """Answering requests."""

    model: str = "selfheal-demo:latest"
    """Tag of the packaged model in the BentoML model store. With `models`, the name of the one that
    is meant: a command is about it, and `bentoml serve` serves it alone."""
    device: Device = "cpu"
    """Where the model answers and heals: `cpu`, `cuda` or `cuda:N`."""
    workers: Annotated[Int, Field(ge=1, le=1024)] = 2
    """Number of predict workers. Each is a process that holds the model."""
    max_batch_size: Count = 100
    """Rows that a heavy model answers in one call, from requests that wait; as BentoML's
    `max_batch_size`. A larger request is answered by itself. A model is heavy where 64 rows take it
    over 5 ms; a worker measures that when it starts. A light model answers at once."""
    max_latency_ms: Annotated[Int, Field(ge=1, le=86_400_000)] = 60_000
    """Longest time in milliseconds that a request may take where it has to wait for others; as
    BentoML's `max_latency_ms`. One that would take longer is refused with 503."""
    model_threads: Annotated[Int, Field(ge=0, le=1024)] = 0
    """Threads that a call of the model takes in each worker. 0 means 1 for a light model or on a
    GPU; for a heavy one, the cores of this machine or container divided by `workers`."""
    max_rows: Count = 10_000
    """Largest number of rows in one request to `/predict`, and of items in one to `/feedback`."""
    body_megabytes: Annotated[Float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 32.0
    """Largest request body, in units of 10^6 bytes, as it comes and unpacked. A larger one is
    refused with 413."""
    request_seconds: Seconds = 30.0
    """Time limit for a request to arrive, head and body, and for a connection's first request to
    begin. Otherwise the connection is closed with 408."""
    queue_rows: Count = 500_000
    """Rows that may wait in a worker for the store. Rows beyond that are dropped and counted."""
    log_sample: Annotated[Float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    """Share of requests to `/predict` that are logged. Signals see only the sample. A label for a
    request that was left out is kept and counted as unmatched."""
    access_log: bool = False
    """Write BentoML's access log for predictions too. It takes a tenth of a request's time."""
    log_format: LogFormat = "plain"
    """Format of the plugin's log lines: `plain`, as BentoML writes its own, or `json`, one object
    per line with the ids of the trace that it belongs to."""
    monitor: bool = False
    """Collect every predicted row and every accepted label through `bentoml.monitor("selfheal")`.
    BentoML's `monitoring` configuration says where they go. By default that is JSON lines in
    `monitoring/selfheal/data` of the working directory, one file per worker and day that nothing
    ever deletes, with the values of the features in it. A background thread writes them, so no
    request waits for it, but it handles each value in Python in the process that answers, and that
    costs throughput. Rows that arrive faster than it writes are left out, and the server's log
    says so."""
    base_image: str = ""
    """Image with Python that `bentoml build` bases the container's image on. Empty means
    `python:3.X-slim` with the version of the Python that builds."""


class AccessSettings(Group):
    """Access control."""

    predict_tokens: SecretStr = SecretStr("")
    """Tokens that may ask for predictions, as `name=token`, separated by commas. As soon as there
    is a token of any role, every request needs one. Without tokens the service listens on this
    machine only."""
    feedback_tokens: SecretStr = SecretStr("")
    """Tokens that may send labels, in the same form."""
    operate_tokens: SecretStr = SecretStr("")
    """Tokens that may read the service's state and change it, in the same form."""
    tokens_file: Path = Path()
    """TOML file with more tokens, in tables `[predict]`, `[feedback]` and `[operate]` of
    `name = "token"`. An edit takes effect within two seconds."""
    open_to_all: bool = False
    """Listen beyond this machine without any token."""
    open_metrics: bool = False
    """Answer `/metrics` without a token even where other requests need one."""
    source_labels_per_minute: NotNegativeCount = 0
    """Rate limit: labels per minute and source of feedback. A request with more is refused with
    429 and none of its labels is kept. All workers and replicas count together, in the store. 0
    disables the limit."""
    token_labels_per_minute: NotNegativeCount = 0
    """Rate limit: labels per minute and token, whatever sources they name; without tokens, labels
    per minute in all. Otherwise like `source_labels_per_minute`."""
    signing_key: SecretStr = SecretStr("")
    """Key that adapters are signed with, at least 32 characters. With a key, an adapter without a
    valid signature never serves. `bento-selfheal sign` signs those that were made before."""

    @field_validator("signing_key")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < KEY_CHARS:
            raise ValueError(f"shorter than {KEY_CHARS} characters; use a longer key")
        return value


class StoreSettings(Group):
    """The store and how long it keeps what."""

    store_url: str = ""
    """SQLAlchemy URL of the store. Empty means SQLite in `state_dir`."""
    state_dir: Path = Path()
    """Folder of the SQLite store and of `threshold_config.json`. Empty means
    `$BENTOML_HOME/selfheal/<model name>`. With `models`, each has a folder of its name below it."""
    log_days: Days = 30.0
    """Days that a prediction stays in the log. A label that comes later is unmatched."""
    log_megabytes: Positive = 10_000.0
    """Size of the features and answers that the log may hold, in units of 10^6 bytes. The oldest
    are removed first. Inputs that `log_inputs` keeps have what these leave of it."""
    waiting_megabytes: Positive = 10_000.0
    """Size of the features and answers of rows that wait for `unreported`, in units of 10^6 bytes.
    They stay in the log beyond `log_days` and `log_megabytes` until they mature. The oldest are
    removed first; the status counts requests that are removed before they mature."""
    log_inputs: Share = 0.0
    """Share of the logged requests to a network whose inputs are kept as they came: images, texts,
    tensors or JSON values, to retrain from with `bento-selfheal export-inputs`. 0 keeps none, 1
    keeps all. Rows of a table need no such setting: the log holds their values anyway."""
    feedback_days: Days = 365.0
    """Days that a label stays in the log. Until then, sending it again counts as known. At least
    `log_days`, and the age in `unreported`."""
    history_days: Days = 90.0
    """Days that the figures for charts and exports stay in the store. Those of signals alone are
    thinned out after one day."""
    record_days: Days = 365.0
    """Days that events, promotions and the rows of dropped snapshots stay in the store. The
    promotion in force stays, and so does every one that could still serve."""
    snapshots_kept: Annotated[Int, Field(ge=5, le=100_000)] = 20
    """Number of snapshots kept in the model store. The clean, the best, the serving and the newest
    one always stay, and so do the one on trial and the one that its line began from."""

    @field_validator("feedback_days")
    @classmethod
    def _outlives_predictions(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("log_days", 0.0):
            raise ValueError("less than log_days: a label sent again would count twice")
        waits: Unreported | None = info.data.get("unreported")  # `HealingSettings` come first
        if waits is not None and value < waits.days:
            raise ValueError(
                f"less than unreported.after ({waits.after}): a label would be gone before its row "
                "matures"
            )
        return value


class HealingSettings(Group):
    """Healing."""

    mode: Literal["observe", "heal"] = "heal"
    """`heal` promotes what passes the gate. `observe` does everything except the promotion."""
    gate: Literal["evidence", "always"] = "evidence"
    """`evidence`: a challenger must win on labels newer than its training. `always`: every heal is
    promoted at once, as in the article, and the health check watches it afterwards."""
    gate_alpha: Chance = 0.05
    """Probability that the gate ever lets a challenger line through that is not better."""
    canary: Shares = ()
    """Percent of the requests that a healed snapshot answers first, step by step, such as `10` or
    `5,50`: what the gate lets through answers all requests only once labels of its own answers came
    and none show harm, and is rolled back where they do. Empty: all at once. See
    [Proof](proof.md#a-share-of-the-requests-first)."""
    health: Literal["evidence", "article"] = "evidence"
    """What triggers a rollback. `evidence`: the gate's test in the opposite direction, against the
    model that was replaced. `article`: the article's rolling means against a baseline. With
    `gate=always` it is always the article's."""
    detectors: Annotated[tuple[DetectorName, ...], NoDecode] = ()
    """River's detectors that watch errors and sensitive features, separated by commas: `adwin`,
    `kswin`, `page-hinkley`."""
    prior_correction: bool = True
    """While there is drift and no labels come, keep the share of flagged rows as it was calibrated
    by moving the decision threshold alone. Answers are then marked unverified."""
    unreported: Unreported | None = None
    """Where only some classes are ever reported: the class of a row that nobody reports, and the
    age from which on it counts, such as `{"class": 0, "after": "30d"}`. All rows then count at that
    age, those with a label too, and a label that comes later replaces the class. See
    [Labels](labels.md#only-one-class-is-reported)."""
    retrain_drop: Share = 0.10
    """The state becomes RETRAIN_NEEDED when the challenger stays this far below the packaged
    accuracy."""
    heal_share: Annotated[Float, Field(ge=0.001, le=1, allow_inf_nan=False)] = 0.25
    """Share of one core that heals may take on average. The runner rests after each heal."""
    runner_nice: Annotated[Int, Field(ge=0, le=19)] = 15
    """Niceness added to the runner's process, so that a heal yields the CPU to predictions."""
    lease_seconds: Annotated[Float, Field(ge=0.01, le=3600, allow_inf_nan=False)] = 5.0
    """Lifetime of the runner's lease. A dead runner is succeeded after at most this long."""
    seed: Annotated[Int, Field(ge=0, lt=2**63)] = 42
    """Seed of the random draws of heals."""

    @field_validator("canary")
    @classmethod
    def _waits_for_the_gate(cls, value: tuple[float, ...], info: ValidationInfo) -> Any:
        if value and info.data.get("gate") == "always":
            raise ValueError("gate=always promotes every heal at once; use gate=evidence with it")
        return value

    @field_validator("detectors", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return split_list(value)


class LabelSettings(Group):
    """Labels and who sends them."""

    conflicts: Literal["first", "last", "votes", "priority"] = "first"
    """Which of several labels of one row stands. `first`: the first one. `last`: the newest.
    `votes`: what most sources say, each with one vote. `priority`: that of the source that comes
    first in `source_priority`. Except with `last`, a source changes what it said with `corrects`;
    with `first`, that replaces any label."""
    source_priority: Annotated[tuple[str, ...], NoDecode] = ()
    """Sources of labels for `conflicts=priority`, the most trusted one first; all others come last.
    With tokens, a source begins with the name of its token, such as `shop/till-3`."""
    source_alpha: Chance = 0.001
    """Probability that an honest source of feedback is ever quarantined."""
    source_quota: Annotated[Int, Field(ge=1, le=1000)] = 1000
    """Labels out of each 1,000 that one source may teach. 1,000 disables the limit."""
    token_sources: dict[str, tuple[str, ...]] = {}
    """Sources that a token may name, such as `{"shop": ["till-1", "till-2"]}`; any other is refused
    with 403. A token that is not listed may name what it likes, always as a source of its own."""

    @field_validator("source_priority", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return split_list(value)


class Tuning(HealParameters):
    """Expert settings. The benchmarks chose the defaults; most deployments never change them."""

    trial_rows: Count = 3000
    """Labelled rows after which an undecided trial ends and a new one begins."""
    advance_rows: Count = 25
    """Labelled rows between two snapshots of a challenger line that has already been proven."""
    regret_alpha: Chance = 0.001
    """Probability, per test of 3,000 rows, that a line that is no worse is rolled back."""
    canary_labels: Count = 100
    """Labelled rows of its own answers that each step of a `canary` takes at least."""
    reference_floor: Share = 0.0
    """A challenger is not promoted when its accuracy on the reference set is below this."""
    retrain_batches: Count = 20
    """Number of labelled batches that decide about `retrain_drop`, and about a lift that fades."""
    new_class_share: Share = 0.05
    """The state becomes RETRAIN_NEEDED when more than this share of the newest labels, some
    thousand, are of classes that the packaged model does not have."""
    detector_run_length: Annotated[Int, Field(ge=100, le=100_000)] = 10_000
    """Average number of rows until a detector's first false alarm while nothing drifts."""
    unlabelled_batches: Count = 5
    """Number of batches without any label after which `prior_correction` begins."""
    pending_labels: Count = 100_000
    """Number of labels kept while their prediction has not reached the log."""
    flush_interval: Annotated[Float, Field(ge=0.001, le=60, allow_inf_nan=False)] = 0.05
    """Seconds between group commits of the prediction log."""
    poll_interval: Annotated[Float, Field(ge=0.001, le=60, allow_inf_nan=False)] = 0.05
    """Seconds between two reads of the logs by the runner when it has nothing to do."""
    follow_interval: Annotated[Float, Field(ge=0.001, le=60, allow_inf_nan=False)] = 0.1
    """Seconds between two reads of the promotion log by a worker."""
