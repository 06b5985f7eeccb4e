"""Settings: one place, validated, each with its meaning.

`HealParameters` says how a model is watched and healed and is shared by the service, the
replay and the article's experiment. `Settings` adds what a running service needs; it reads
environment variables ``SELFHEAL_<NAME>`` over ``selfheal.toml`` over the defaults.
`Thresholds` are operations' own: they live in ``threshold_config.json`` and are picked up
while the service runs.
"""

from __future__ import annotations

import difflib
import json
import logging
import math
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from .detectors import DetectorName
from .errors import SettingsError

log = logging.getLogger(__name__)

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
LogFormat = Literal["plain", "json"]
Device = Annotated[str, Field(pattern=r"^(cpu|cuda(:(0|[1-9][0-9]?))?)$")]

SECRET = ("_tokens", "_key")
"""Ends of the names of settings whose values no message may show."""
KEY_CHARS = 32
LEAST_OWN = 0.05
"""Share of labels in the targets under which there are no more steps, and no less averaging."""
MOST_STEPS = 100
"""Steps that anchor and pace together may ask of a round: it is to end before the next labels."""


class HealParameters(BaseModel):
    """How drift is seen and how a heal trains. The names are the article's where it has one."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    batch_size: Count = 100
    """Rows of the prediction log that make one batch for the signals and the metrics."""
    fidi_threshold: Positive = 1.0
    """z of a sensitive feature, in standard deviations of samples, above which it has drifted."""
    fidi_window: Count = 10
    """How many batch means FIDI averages."""
    conflict_thr: Share = 0.30
    """Probability of a rule's class below which a row that the rule flags is a conflict."""
    conflict_min: Count = 5
    """Conflicts in one batch that ask for a heal."""
    error_drop: Share = 0.05
    """Accuracy on labels, as a rolling mean, this far below the reference set's asks for a heal."""
    agreement_z: Positive = 4.0
    """Distance of the share of rows on which rules and model agree from the usual one, in
    standard errors, that counts as drift."""
    recipe: Literal["replay", "article"] = "replay"
    """How a heal trains: `replay` on a buffer of the newest labels, or the `article`'s way."""
    heal_steps: Count = 5
    """Full-batch steps of the `article` recipe."""
    heal_lr: Positive = 0.003
    """Adam's learning rate on the adapter, for both recipes."""
    alpha: Share = 0.70
    """`article`: weight of the loss on labels; the rest goes to consistency with the rules."""
    lambda_lag: Annotated[float, Field(ge=0)] = 0.80
    """`article`: further weight of the consistency loss."""
    entropy_weight: Annotated[float, Field(ge=0)] = 0.03
    """`article`: weight of the entropy loss."""
    pos_weight_floor: Share = 0.10
    """`article`: share of fraud among the conflicts below which no class weight is used."""
    pos_weight_base: Positive = 2.0
    """`article`: class weight at the floor."""
    pos_weight_slope: Annotated[float, Field(ge=0)] = 10.0
    """`article`: class weight gained for each unit of that share above the floor."""
    pos_weight_max: Positive = 4.0
    """`article`: the largest class weight."""
    heal_rows: Count = 25
    """`replay`: labels that are tested on, then trained on, in one round."""
    buffer_rows: Count = 20_000
    """`replay`: labelled rows that are kept to train on: the newest, and of a rare class older
    ones too."""
    replay_rate: Positive = 0.05
    """`replay`: minibatch steps for each row answered meanwhile, at most ten times the labels."""
    replay_first: Count = 30
    """`replay`: steps of a line's first round; the k-th has a k-th of it, or what the rate asks."""
    replay_batch: Count = 256
    """`replay`: rows of one minibatch."""
    replay_half_life: Positive = 300.0
    """`replay`: a row this many labels older is drawn half as often."""
    replay_rare: Positive = 100.0
    """`replay`: the half-life is long enough to hold this many labels of the rarest class."""
    replay_average: Share = 0.8
    """`replay`: what is kept, over 100 labels, of the moving average of the weights; the less, the
    more of the targets comes from the anchor, whose soft labels need no averaging."""
    anchor_labels: Annotated[float, Field(ge=0)] = 2000.0
    """`replay`: labels outside the commonest class that a line has seen when the anchor's soft
    labels weigh as much as its own; their odds fall with the square of that. 0 is no anchor."""
    anchor_floor: Share = 0.5
    """`replay`: the least weight of the anchor's soft labels."""
    anchor_half_life: Positive = 1000.0
    """`replay`: half-life, in labels, of what the anchor is fitted to."""
    anchor_rare: Positive = 300.0
    """`replay`: that half-life is long enough to hold this many labels of the rarest class."""
    anchor_ridge: Positive = 0.5
    """`replay`: ridge that pulls the anchor to what the shadow says."""
    adapter_norm: Positive = 100.0
    """Largest distance of healed adapter weights from the packaged ones, Euclidean."""
    health_window: Count = 5
    """Labelled batches in the rolling means that health watches."""

    def steps(self, rounds: int, pace: float = 1.0, lean: float = 0.0) -> int:
        """Minibatch steps of the round after so many rounds of a line, at a pace of labels.

        The more of a step's targets comes from the anchor, the more steps: labels are trained on
        as often as ever, and soft labels cannot be learned by heart.
        """
        asked = math.ceil(self.replay_rate * self.heal_rows * pace / max(1 - lean, LEAST_OWN))
        return max(min(asked, MOST_STEPS), self.replay_first // (1 + rounds))

    def kept(self, pace: float = 1.0, lean: float = 0.0) -> float:
        """What one round keeps of the moving average of the weights."""
        own = max(min(1.0, 2 * (1 - lean)), LEAST_OWN)
        return float(self.replay_average ** (self.heal_rows * pace / 100 / own))

    def lean(self, seen: float) -> float:
        """Share of the anchor in what a line trains towards that has seen so many labels outside
        the commonest class."""
        if self.anchor_labels == 0:
            return 0.0
        return max(1 / (1 + (seen / self.anchor_labels) ** 2), self.anchor_floor)

    def anchor_memory(self, rarest: float, pace: float = 1.0) -> float:
        """Half-life in labels of what the anchor is fitted to.

        Few labels reach far back: theirs is longer in rows and shorter in labels.
        """
        long = max(self.anchor_half_life, self.anchor_rare / max(rarest, 1e-9))
        return float(long / pace**0.75)

    def half_life(self, rarest: float) -> float:
        """Half-life in labels when the rarest class has this share of them."""
        return max(self.replay_half_life, self.replay_rare / max(rarest, 1e-9))

    def pos_weight(self, fraud_frac: float) -> float:
        """Class weight of the article's heal for a share of fraud among conflicts."""
        if fraud_frac < self.pos_weight_floor:
            return 1.0
        over = fraud_frac - self.pos_weight_floor
        return min(self.pos_weight_base + self.pos_weight_slope * over, self.pos_weight_max)


class Thresholds(BaseModel):
    """Operations' own: when to roll back and what mistakes cost, apart from the model."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rollback_f1_drop: Share = 0.08
    """F1 this far below the baseline, as a rolling mean, rolls back."""
    rollback_acc_drop: Share = 0.10
    """Accuracy this far below the baseline, as a rolling mean, rolls back."""
    miss_cost: Positive = 1.0
    """What a missed row of class 1 costs, in any unit."""
    alarm_cost: Positive = 1.0
    """What a false alarm costs, in the same unit."""
    capacity: Annotated[float, Field(gt=0, lt=1000)] | None = None
    """Rows in 1,000 that may be flagged; it goes before the costs."""

    @property
    def bayes_threshold(self) -> float:
        """Probability from which on an alarm is the cheaper mistake."""
        return self.alarm_cost / (self.alarm_cost + self.miss_cost)


class Settings(BaseSettings, HealParameters):
    """Everything a running service needs. Frozen while it runs."""

    model_config = SettingsConfigDict(
        env_prefix="SELFHEAL_", extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    model: str = "selfheal-demo:latest"
    """Tag of the packaged model in the BentoML model store."""
    mode: Literal["observe", "heal"] = "heal"
    """`heal` promotes what the gate lets through; `observe` does everything but the promotion."""
    gate: Literal["evidence", "always"] = "evidence"
    """`evidence`: a challenger must win on labels newer than its training. `always`: every heal
    is promoted at once, as the article does, and health watches afterwards."""
    gate_alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Chance that the gate ever lets a line of challengers through that is not better."""
    trial_rows: Count = 3000
    """Labelled rows after which an undecided trial ends and a new one begins."""
    advance_rows: Count = 100
    """Rows answered on whose labels a proven line is looked at before its next snapshot serves."""
    health: Literal["evidence", "article"] = "evidence"
    """What asks for a rollback: `evidence`, the gate's test turned round, against the model that
    was replaced; or the `article`'s rolling means against a baseline. Without a gate it is the
    article's."""
    regret_alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Chance, per test of 3,000 rows, that a line which is no worse is taken back."""
    detectors: tuple[DetectorName, ...] = ()
    """Detectors of River that watch errors and sensitive features: adwin, kswin, page-hinkley."""
    detector_run_length: Annotated[int, Field(ge=100, le=100_000)] = 10_000
    """Rows to a detector's first false alarm, on average, in a calm world."""
    prior_correction: bool = True
    """While drift is seen and no label comes, keep the share of flagged rows as calibrated, by
    the decision threshold alone and marked unverified."""
    unlabelled_batches: Count = 5
    """Batches without any label after which that begins."""
    source_alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Chance that an honest source of feedback is ever quarantined."""
    source_quota: Annotated[int, Field(ge=1, le=1000)] = 1000
    """Labels of each 1,000 that one source may teach; 1,000 is no bound."""
    reference_floor: Share = 0.1
    """Accuracy on the reference set below which no challenger is promoted."""
    retrain_drop: Share = 0.10
    """RETRAIN_NEEDED when the challenger stays this far below the packaged accuracy."""
    retrain_batches: Count = 20
    """Labelled batches on which that is judged, and whether lift has faded."""
    device: Device = "cpu"
    """Where the model answers and heals: `cpu`, `cuda` or `cuda:N`."""
    workers: Count = 2
    """Predict workers, each a process with the model in it."""
    store_url: str = ""
    """SQLAlchemy URL of the store; empty means SQLite in `state_dir`."""
    state_dir: Path = Path()
    """Folder of the SQLite store and of threshold_config.json; empty means
    `$BENTOML_HOME/selfheal/<model name>`."""
    predict_tokens: SecretStr = SecretStr("")
    """Tokens that may ask for predictions: `name=token`, several with commas between. With any
    token of any role set, each request needs one; with none, only this machine is listened to."""
    feedback_tokens: SecretStr = SecretStr("")
    """Tokens that may give labels, likewise."""
    operate_tokens: SecretStr = SecretStr("")
    """Tokens that may read where the service stands, and change it, likewise."""
    tokens_file: Path = Path()
    """TOML file with further tokens, in tables `[predict]`, `[feedback]` and `[operate]` of
    `name = "token"`; a change of it is in force within two seconds."""
    open_to_all: bool = False
    """Listen beyond this machine without any token."""
    open_metrics: bool = False
    """Answer /metrics without a token where tokens are asked for."""
    max_rows: Count = 10_000
    """Rows that one request to /predict, or items that one to /feedback, may carry."""
    body_megabytes: Positive = 32.0
    """Largest body of a request, in units of 10^6 bytes; a larger one is refused with 413."""
    request_seconds: Positive = 30.0
    """Seconds in which a request must have come, head and body, and a connection's first must
    begin; else the connection is closed, with 408."""
    source_labels_per_minute: Annotated[int, Field(ge=0)] = 0
    """Labels a minute that one source of feedback may give; a request with more is refused with 429
    and nothing of it kept. Each worker counts for itself. 0 is no bound."""
    token_labels_per_minute: Annotated[int, Field(ge=0)] = 0
    """Labels a minute that may come with one token, whatever sources they name; without tokens, all
    there are. Likewise."""
    log_sample: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of requests to /predict that are logged. Signals see the sample; a label for a request
    that was left out is kept and counted as unmatched."""
    log_days: Positive = 30.0
    """Days that a prediction stays in the log; a label that comes later is unmatched."""
    log_megabytes: Positive = 10_000.0
    """Features and answers that the log may hold, in units of 10^6 bytes; the oldest go first."""
    feedback_days: Positive = 365.0
    """Days that a label stays in the log, and that sending it again counts as known."""
    history_days: Positive = 90.0
    """Days that the figures for charts and exports stay in the store; those of signals alone are
    thinned out after one day."""
    access_log: bool = False
    """Write BentoML's access log for predictions too; it takes a tenth of a request's time."""
    monitor: bool = False
    """Collect every predicted row and every accepted label through `bentoml.monitor("selfheal")`.
    BentoML's `monitoring` configuration says where they go; by default to JSON lines in
    `monitoring/selfheal/data` of the working directory, a file for each worker and day that
    nothing ever deletes, with the values of the features in it. A thread behind the answer writes
    them, so no request waits for it; but it handles each value in Python, in the process that
    answers, and that costs throughput. What comes faster than it writes is left out, which the
    server's log says."""
    log_format: LogFormat = "plain"
    """Our log lines: `plain`, as BentoML writes its own, or `json`, one object a line with the ids
    of the trace that it belongs to."""
    queue_rows: Count = 500_000
    """Rows that may wait in a worker for the store; beyond it rows are dropped and counted."""
    flush_interval: Positive = 0.05
    """Seconds between group commits of the prediction log."""
    poll_interval: Positive = 0.05
    """Seconds between two looks of the runner at the logs when it has nothing to do."""
    follow_interval: Positive = 0.1
    """Seconds between two looks of a worker at the promotion log."""
    lease_seconds: Positive = 5.0
    """Life of the runner's lease; a dead runner is succeeded after at most this long."""
    pending_labels: Count = 100_000
    """Labels kept while their prediction has not reached the log."""
    signing_key: SecretStr = SecretStr("")
    """Key that adapters are signed with, at least 32 characters. With one, an adapter without its
    signature never serves; `bento-selfheal sign` signs those that were made before."""
    snapshots_kept: Annotated[int, Field(ge=5)] = 20
    """Snapshots kept in the model store: the clean, best and serving ones,
    the one on trial, what its line began from and the newest stay."""
    runner_nice: Annotated[int, Field(ge=0, le=19)] = 15
    """Niceness added to the runner's process, so that a heal yields the CPU to predictions."""
    heal_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of one core that heals may take on average: after each the runner rests."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Seed of the heals' random draws."""
    base_image: str = ""
    """Image with Python that `bentoml build` bases the container's on; empty means the
    `python:3.X-slim` of the Python that builds."""

    @field_validator("feedback_days")
    @classmethod
    def _outlives_predictions(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("log_days", 0.0):
            raise ValueError("less than log_days: a label sent again would count twice")
        return value

    @field_validator("signing_key")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < KEY_CHARS:
            raise ValueError(f"shorter than {KEY_CHARS} characters")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = os.environ.get("SELFHEAL_CONFIG", "selfheal.toml")
        toml = TomlConfigSettingsSource(settings_cls, toml_file=file)
        return init_settings, env_settings, toml


def load_settings() -> Settings:
    """Read the settings from the environment and the file.

    Raises:
        SettingsError: A name is unknown or a value does not fit; each is named.
    """
    known = set(Settings.model_fields) | {"config"}
    unknown = [
        name
        for name in os.environ
        if name.startswith("SELFHEAL_") and name.removeprefix("SELFHEAL_").lower() not in known
    ]
    if unknown:
        near = difflib.get_close_matches(
            unknown[0], [f"SELFHEAL_{name.upper()}" for name in known], n=1
        )
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"unknown environment variables {sorted(unknown)}{hint}")
    file = os.environ.get("SELFHEAL_CONFIG")
    if file and not Path(file).is_file():
        raise SettingsError(f"SELFHEAL_CONFIG: there is no file {file}")
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(describe(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file or 'selfheal.toml'}: {error}") from error


def describe(error: ValidationError) -> str:
    """One line for each wrong field: its name, what is wrong, and the value."""
    return "; ".join(_described(item) for item in error.errors())


def _described(item: Any) -> str:
    said = f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
    secret = item["loc"] and str(item["loc"][0]).endswith(SECRET)
    return said if secret else f"{said} (got {item['input']!r})"


class ThresholdFile:
    """``threshold_config.json``, watched while the service runs.

    A bad edit is refused with a log line and the values in force stay.

    Args:
        path: The file; it is written with the defaults where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.current = Thresholds()
        self._seen: tuple[int, int] | None = None
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.current.model_dump(), indent=2) + "\n")

    def check(self) -> None:
        """See whether `refresh` would take the file.

        Raises:
            SettingsError: It would not; each wrong field is named.
        """
        try:
            Thresholds.model_validate_json(self.path.read_bytes())
        except ValidationError as error:
            raise SettingsError(describe(error)) from error

    def refresh(self) -> bool:
        """Look at the file again; True when other values are in force now."""
        try:
            stat = self.path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp == self._seen:
                return False
            self._seen = stamp
            fresh = Thresholds.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return False
        except OSError as error:
            log.error("cannot read %s: %s; still in force: %s", self.path, error, self.current)
            return False
        except ValidationError as error:
            log.error(
                "refused %s: %s; still in force: %s", self.path, describe(error), self.current
            )
            return False
        changed = fresh != self.current
        if changed:
            log.info("thresholds from %s: %s (before: %s)", self.path, fresh, self.current)
        self.current = fresh
        return changed
