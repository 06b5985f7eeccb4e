"""Checks a deployment before and while it serves; each finding says how to fix it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import urlsplit

from bento_selfheal.config.models import variable
from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import ThresholdFile
from bento_selfheal.core.text import counted
from bento_selfheal.deployment.locations import exact_tag, open_store, state_dir
from bento_selfheal.errors import SelfHealError, SettingsError
from bento_selfheal.packaging.model_store import bentoml_home
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.segments.definition import segments_of
from bento_selfheal.serving.http.auth import Tokens
from bento_selfheal.store import SqlStore
from bento_selfheal.telemetry.otel_env import OtelVariables
from bento_selfheal.telemetry.otel_invalid import invalid

CONNECT_SECONDS = 3.0
PARTS = (
    "bento-selfheal",
    "bentoml",
    "torch",
    "numpy",
    "pydantic",
    "sqlalchemy",
    "opentelemetry-sdk",
)
FAST = ("uvloop", "httptools")


class Grade(StrEnum):
    """What a finding asks for."""

    GOOD = "good"  # nothing
    WARN = "warn"  # attention: the service works, but not as well as it could
    BAD = "bad"  # a fix: the service does not work, or not as configured


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    what: str
    grade: Grade
    found: str
    mend: str = ""
    """What to do about it; empty when nothing needs to be done."""


def examine(settings: Settings) -> Iterator[Finding]:
    """Run every check, those of a model for each. A check that fails itself is a finding too."""
    yield from _looks(settings, _versions, _access, _telemetry, _tracking, _threads)
    for name, own in settings.each.items():
        for finding in _looks(own, _permissions, _model, _store, _thresholds):
            yield replace(finding, what=f"{name}: {finding.what}") if name else finding


def _looks(
    settings: Settings, *looks: Callable[[Settings], Iterator[Finding]]
) -> Iterator[Finding]:
    for look in looks:
        try:
            yield from look(settings)
        except Exception as error:
            # One broken part must not hide the state of the others.
            yield Finding(look.__name__.strip("_"), Grade.BAD, f"{type(error).__name__}: {error}")


def _versions(_: Settings) -> Iterator[Finding]:
    found = ", ".join(f"{part} {importlib.metadata.version(part)}" for part in PARTS)
    yield Finding("versions", Grade.GOOD, f"Python {platform.python_version()}, {found}")
    bentoml = importlib.metadata.version("bentoml")
    if not bentoml.startswith("1.4."):
        yield Finding(
            "versions", Grade.BAD, f"bentoml {bentoml}", "pip install 'bentoml>=1.4.30,<1.5'"
        )
    missing = [part for part in FAST if not _installed(part)]
    if missing:
        yield Finding(
            "versions", Grade.WARN, f"{', '.join(missing)} not installed; requests take longer",
            f"pip install {' '.join(missing)}",
        )  # fmt: skip


def _variable(settings: Settings, name: str) -> str:
    """The variable of a setting, of the one model or of one among several."""
    own = f"{variable(settings.name)}__" if settings.name else ""
    return f"SELFHEAL_{own}{name}"


def _installed(part: str) -> bool:
    try:
        importlib.metadata.version(part)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _permissions(settings: Settings) -> Iterator[Finding]:
    for what, folder in (("model store", bentoml_home()), ("state folder", state_dir(settings))):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            yield Finding(
                what, Grade.BAD, f"{folder}: {error.strerror}",
                f"let the service's user (uid {os.getuid()}) write there",
            )  # fmt: skip
        else:
            yield Finding(what, Grade.GOOD, f"{folder} can be written")


def _access(settings: Settings) -> Iterator[Finding]:
    try:
        tokens = Tokens(settings)
    except SettingsError as error:
        yield Finding("access", Grade.BAD, str(error), "fix it; the service does not start")
        return
    if tokens:
        yield Finding("access", Grade.GOOD, f"tokens of {tokens.owners}")
    elif settings.open_to_all:
        yield Finding(
            "access", Grade.WARN, "open to all: everyone may predict, send labels and operate",
            "set SELFHEAL_TOKENS_FILE to a file of tokens (docs/security.md)",
        )  # fmt: skip
    else:
        yield Finding("access", Grade.GOOD, "no tokens; only local connections are accepted")


def _model(settings: Settings) -> Iterator[Finding]:
    from bentoml.exceptions import BentoMLException

    try:
        package = open_package(exact_tag(settings), settings.device)
    except (BentoMLException, SelfHealError) as error:
        yield Finding(
            "model", Grade.BAD, str(error),
            f"package it (`bento-selfheal package`), or set {_variable(settings, 'MODEL')} to one "
            "of `bentoml models list`",
        )  # fmt: skip
        return
    info = package.info
    yield Finding(
        "model", Grade.GOOD,
        f"{package.tag} opens and verifies: {counted(len(info.features), 'feature')}, "
        f"{len(info.classes)} classes, accuracy {info.accuracy:.3f} on its reference set",
    )  # fmt: skip
    try:
        segments_of(settings.segments, info.features, info.columns, info.hidden_columns)
    except SettingsError as error:
        yield Finding(
            "segments", Grade.BAD, str(error), f"fix {_variable(settings, 'SEGMENTS')}; the model "
            "is not served with it",
        )  # fmt: skip
    if settings.log_inputs and info.rows_hold_inputs:
        yield Finding(
            "inputs", Grade.WARN,
            "log_inputs has no effect: the log holds the rows of a table anyway",
            "unset SELFHEAL_LOG_INPUTS",
        )  # fmt: skip
    if not info.rules and len(info.features) > info.hidden_columns:  # of a vector there are none
        yield Finding(
            "model", Grade.WARN, "no rules, so conflicts cannot request a heal",
            "`bento-selfheal suggest` lists candidates",
        )  # fmt: skip


def _store(settings: Settings) -> Iterator[Finding]:
    if not settings.store_url and not (state_dir(settings) / "selfheal.db").exists():
        yield Finding("store", Grade.WARN, "no store yet", "the service creates it when it starts")
        return
    store = open_store(settings)
    try:
        store.check()
        yield from _store_findings(store)
    except SelfHealError as error:
        yield Finding(
            "store",
            Grade.BAD,
            str(error),
            f"check {_variable(settings, 'STORE_URL')} and the store's server",
        )
    finally:
        store.close()


def _store_findings(store: SqlStore) -> Iterator[Finding]:
    tag, status = store.meta("package"), store.status()
    yield Finding(
        "store",
        Grade.GOOD,
        f"serves {tag}; {counted(store.ends()[0], 'request was', 'requests were')} logged",
    )
    if kept := store.logged_inputs():
        yield Finding("inputs", Grade.GOOD, f"{kept / 1e6:,.1f} MB of inputs are kept as they came")
    leader = store.leader()
    if leader is None:
        yield Finding(
            "runner", Grade.WARN, "no healing runner leads",
            "if the service is running, its runner is dead: see the log",
        )  # fmt: skip
    else:
        yield Finding("runner", Grade.GOOD, f"{leader} leads, state {status.get('state')}")
    if retrain := status.get("retrain"):
        yield Finding(
            "healing", Grade.WARN, str(retrain), "retrain, then `bento-selfheal deploy TAG`"
        )


def _thresholds(settings: Settings) -> Iterator[Finding]:
    path = state_dir(settings) / "threshold_config.json"
    if not path.exists():
        return
    file = ThresholdFile(path)
    try:
        file.read()
    except SelfHealError as error:
        yield Finding("thresholds", Grade.BAD, str(error), f"fix {path}")
    else:
        yield Finding("thresholds", Grade.GOOD, f"{path} is in order")


def _telemetry(_: Settings) -> Iterator[Finding]:
    variables = OtelVariables()
    exports = [variables.export("traces"), variables.export("metrics")]
    variables.sample_rate()
    for problem in dict.fromkeys([*variables.problems, *invalid(os.environ).values()]):
        yield Finding("telemetry", Grade.WARN, problem.text, problem.fix)
    endpoints = sorted({export.endpoint for export in exports if export is not None})
    if not endpoints:
        yield Finding(
            "telemetry", Grade.GOOD, "nothing is exported over OTLP; /metrics works without it"
        )
    for endpoint in endpoints:
        yield _collector(endpoint)


def _collector(endpoint: str) -> Finding:
    parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), CONNECT_SECONDS).close()
    except OSError as error:
        return Finding(
            "telemetry", Grade.BAD, f"{endpoint} does not answer: {error}",
            "check OTEL_EXPORTER_OTLP_ENDPOINT; predictions continue without it",
        )  # fmt: skip
    return Finding("telemetry", Grade.GOOD, f"{endpoint} accepts connections")


def _tracking(_: Settings) -> Iterator[Finding]:
    if os.environ.get("BENTOML_DO_NOT_TRACK", "").lower() == "true":
        yield Finding("tracking", Grade.GOOD, "BentoML does not report usage")
    else:
        yield Finding(
            "tracking", Grade.WARN, "BentoML reports usage; in a closed network its calls stall",
            "export BENTOML_DO_NOT_TRACK=True",
        )  # fmt: skip


def _threads(settings: Settings) -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    on = f"{counted(settings.workers, 'worker')} on {counted(cores, 'core')}"
    if settings.workers > cores:
        yield Finding(
            "workers", Grade.WARN, on,
            f"SELFHEAL_WORKERS={cores}",
        )  # fmt: skip
    else:
        yield Finding("workers", Grade.GOOD, on)
