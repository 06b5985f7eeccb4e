"""Settings: one place, validated, each with its meaning.

`HealParameters` says how a model is watched and healed and is shared by the service, the
replay and the article's experiment. `Settings` adds what a running service needs; it reads
environment variables ``SELFHEAL_<NAME>`` over ``selfheal.toml`` over the defaults.
`Thresholds` are operations' own: they live in ``threshold_config.json`` and are picked up
while the service runs.
"""

from __future__ import annotations

import difflib
import logging
import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from bento_selfheal.config.parameters import DetectorName, HealParameters
from bento_selfheal.config.validation import Count, Positive, Share, describe
from bento_selfheal.errors import SettingsError

log = logging.getLogger(__name__)
LogFormat = Literal["plain", "json"]
Device = Annotated[str, Field(pattern=r"^(cpu|cuda(:(0|[1-9][0-9]?))?)$")]
KEY_CHARS = 32


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
    record_days: Positive = 365.0
    """Days that events, promotions and the rows of dropped snapshots stay in the store. The
    promotion in force stays, and every one that could still serve."""
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
