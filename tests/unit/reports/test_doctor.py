"""The doctor: each thing that is wrong is found, and says how to mend it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bento_selfheal.config.segments import Segment
from bento_selfheal.config.settings import Settings
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.packaging.package import Package
from bento_selfheal.reports.doctor import Finding, Grade, examine
from bento_selfheal.simulation.server import free_port


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)


@pytest.fixture
def settings(package: Package, tmp_path: Path) -> Settings:
    settings = Settings(model=package.tag, state_dir=tmp_path / "state", workers=1)
    prepare(settings)
    return settings


def found(settings: Settings, what: str) -> Finding:
    """The worst finding on one thing."""
    grades = list(Grade)
    return max((f for f in examine(settings) if f.what == what),
               key=lambda f: grades.index(f.grade))  # fmt: skip


def test_all_is_well(settings: Settings) -> None:
    """A deployment in order has nothing to mend; without a runner it says so."""
    findings = list(examine(settings))
    assert Grade.BAD not in {f.grade for f in findings}, findings
    assert found(settings, "model").grade is Grade.GOOD
    assert found(settings, "runner").grade is Grade.WARN


def test_leader(settings: Settings) -> None:
    """Who leads is named."""
    store = open_store(settings)
    store.acquire_lease("host:1", 60)
    store.close()
    assert found(settings, "runner").grade is Grade.GOOD


def _no_model(s: Settings, _: pytest.MonkeyPatch) -> Settings:
    return s.model_copy(update={"model": "nobody:latest"})


def _no_store(s: Settings, _: pytest.MonkeyPatch) -> Settings:
    url = f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing"
    return s.model_copy(update={"store_url": url})


def _bad_thresholds(s: Settings, _: pytest.MonkeyPatch) -> Settings:
    (s.state_dir / "threshold_config.json").write_text('{"rollback_f1_drop": 7}')
    return s


def _deaf_collector(s: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    return s


def _no_grpc(s: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setattr("bento_selfheal.telemetry.otel_env._has_grpc", lambda: False)
    return s


def _tracked(s: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("BENTOML_DO_NOT_TRACK")
    return s


def _no_tokens_file(s: Settings, _: pytest.MonkeyPatch) -> Settings:
    return s.model_copy(update={"tokens_file": s.state_dir / "nowhere.toml"})


def _open(s: Settings, _: pytest.MonkeyPatch) -> Settings:
    return s.model_copy(update={"open_to_all": True})


def _crowded(s: Settings, _: pytest.MonkeyPatch) -> Settings:
    return s.model_copy(update={"workers": (os.cpu_count() or 1) + 1})


@pytest.mark.parametrize(
    ("spoil", "what", "grade", "says"),
    [
        (_no_model, "model", Grade.BAD, "bentoml models list"),
        (_no_store, "store", Grade.BAD, "SELFHEAL_STORE_URL"),
        (_bad_thresholds, "thresholds", Grade.BAD, "threshold_config.json"),
        (_deaf_collector, "telemetry", Grade.BAD, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (_no_grpc, "telemetry", Grade.WARN, "pip install opentelemetry-exporter-otlp-proto-grpc"),
        (_tracked, "tracking", Grade.WARN, "BENTOML_DO_NOT_TRACK"),
        (_no_tokens_file, "access", Grade.BAD, "does not start"),
        (_open, "access", Grade.WARN, "SELFHEAL_TOKENS_FILE"),
        (_crowded, "workers", Grade.WARN, "SELFHEAL_WORKERS"),
    ],
)
def test_what_is_wrong(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Settings, pytest.MonkeyPatch], Settings],
    what: str,
    grade: Grade,
    says: str,
) -> None:
    """Each is found under its name, graded, and told how to mend."""
    finding = found(spoil(settings, monkeypatch), what)
    assert finding.grade is grade
    assert says in finding.mend


def test_each_of_several_models(package: Package, tmp_path: Path) -> None:
    """What is wrong with one model stands beside its name, with its own variable; what is the
    whole service's stands there once."""
    each = {
        name: Settings(model=tag, state_dir=tmp_path / name)
        for name, tag in (("fraud", package.tag), ("credit-eu", "absent:latest"))
    }
    for name, own in each.items():
        own.name_as(name)
    findings = list(examine(Settings(models=("fraud", "credit-eu")).with_each(each)))
    grades = {f.what: f.grade for f in findings if f.grade is not Grade.WARN}
    assert (grades["fraud: model"], grades["credit-eu: model"]) == (Grade.GOOD, Grade.BAD)
    missing = next(f for f in findings if f.what == "credit-eu: model")
    assert "set SELFHEAL_CREDIT_EU__MODEL to" in missing.mend
    assert [f.what for f in findings].count("access") == 1


def test_segments_that_do_not_fit(settings: Settings) -> None:
    """A segment of a column that the model does not have is named before the service starts."""
    wrong = settings.model_copy(update={"segments": (Segment(column="regoin"),)})
    finding = found(wrong, "segments")
    assert finding.grade is Grade.BAD
    assert "there is no column 'regoin'" in finding.found
    assert "SELFHEAL_SEGMENTS" in finding.mend
