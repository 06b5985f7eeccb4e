"""Exports, plots and the report: the same story from a store and from the article's experiment."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rigs import drifting
from steps import LAZY, send

from bento_selfheal.config.settings import Settings
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.errors import SettingsError, StoreError
from bento_selfheal.packaging.package import Package
from bento_selfheal.reports.export import write_export
from bento_selfheal.reports.html import render_report
from bento_selfheal.reports.inputs_export import export_inputs
from bento_selfheal.reports.plots import drawn, write_plots
from bento_selfheal.reports.report_data import ReportData, moment, read_experiment, read_store
from bento_selfheal.runner.runner import Runner
from bento_selfheal.serving.worker import Worker
from bento_selfheal.simulation.article import run_experiment
from bento_selfheal.simulation.article_results import ExperimentResult
from bento_selfheal.simulation.article_settings import experiment_settings
from bento_selfheal.simulation.comparison import backtest_log
from bento_selfheal.telemetry.spans import Telemetry

ARTICLE = ["accuracy", "f1", "precision", "recall", "z", "conflicts", "lift", "state"]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def settings(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of a store that has seen a drift and its heals."""
    folder = tmp_path_factory.mktemp("lived") / "state"
    settings = Settings(
        model=package.tag, state_dir=folder, batch_size=50, replay_rate=LAZY, lease_seconds=60
    )
    prepare(settings)
    worker, runner = Worker(settings, Telemetry()), Runner(settings, Telemetry())
    send(worker, *drifting(clean=200, drifted=500), drain=runner)
    worker.store.close()
    runner.store.close()
    return settings


@pytest.fixture(scope="module")
def result() -> ExperimentResult:
    """The article's run with its rollbacks."""
    changes = {"drift_strength": "3.5", "rollback_f1_drop": "0.03"}
    return run_experiment(experiment_settings(42, None, changes))


@pytest.fixture(scope="module", params=["store", "experiment"])
def data(request: pytest.FixtureRequest) -> ReportData:
    if request.param == "store":
        return read_store(request.getfixturevalue("settings"))
    return read_experiment(request.getfixturevalue("result"))


def test_export(data: ReportData, tmp_path: Path) -> None:
    """A row a labelled batch with the article's columns; events and thresholds beside it."""
    files = {path.name: path for path in write_export(data, tmp_path / "out")}
    with files["metrics.csv"].open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["batch"]) for row in rows] == [*range(1, len(rows) + 1)]
    assert len(rows) >= 14
    for row in rows:
        assert all(row[name] != "" for name in ARTICLE)
        assert float(row["lift"]) == pytest.approx(
            float(row["accuracy"]) - float(row["shadow_accuracy"])
        )
    told = json.loads(files["events.json"].read_text())
    assert {"heal"} <= {e["kind"] for e in told["events"]}
    thresholds = json.loads(files["threshold_config.json"].read_text())
    assert thresholds["rollback_f1_drop"] in (0.08, 0.03)


def test_export_of_the_experiment_is_the_articles(result: ExperimentResult, tmp_path: Path) -> None:
    """13 rollbacks at drift 3.5, as the article's system had them (article.md, section 6)."""
    write_export(read_experiment(result), tmp_path)
    told = json.loads((tmp_path / "events.json").read_text())
    assert sum(e["kind"] == "rollback" for e in told["events"]) == 13
    with (tmp_path / "metrics.csv").open() as file:
        states = [row["state"] for row in csv.DictReader(file)]
    assert states.count("ROLLED_BACK") == 13


def test_a_stretch_of_time(settings: Settings) -> None:
    """Only what lies within it; a store without a package is refused."""
    whole = read_store(settings)
    middle = whole.batches[len(whole.batches) // 2]["time"]
    late = read_store(settings, since=middle)
    early = read_store(settings, until=middle)
    assert 0 < len(late.batches) < len(whole.batches)
    assert all(row["time"] >= middle for row in [*late.batches, *late.events, *late.promotions])
    assert all(row["time"] <= middle for row in [*early.batches, *early.events])


@pytest.mark.slow
def test_all_of_a_long_time(settings: Settings, tmp_path: Path) -> None:
    """Nothing is left out of an export, however much there was: no promotion, no event."""
    shutil.copytree(settings.state_dir, tmp_path / "state")
    own = settings.model_copy(update={"state_dir": tmp_path / "state"})
    before = read_store(own)
    with closing(sqlite3.connect(tmp_path / "state" / "selfheal.db")) as c, c:
        c.execute(
            "insert into promotions (kind, version, tag, sha256, reason, time, by, evidence) "
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 100500) "
            "select 'rollback', 1, 'a:1', 'ab', 'why', 1.0, 'anna', '{}' from n"
        )
        c.execute(
            "insert into promotions (kind, version, tag, sha256, reason, time, by, evidence) "
            "values ('rollback', 1, 'a:1', 'ab', 'the newest', 2.0, 'anna', '{}')"
        )
    found = read_store(own)
    assert len(found.promotions) == len(before.promotions) + 100_501
    assert found.promotions[-1]["reason"] == "the newest"
    assert (found.events, found.snapshots) == (before.events, before.snapshots)


def test_no_store(package: Package, tmp_path: Path) -> None:
    """A store that nothing was deployed to says so."""
    empty = Settings(model=package.tag, state_dir=tmp_path / "state")
    open_store(empty).create()
    with pytest.raises(StoreError, match="no package yet"):
        read_store(empty)


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize(
    "read",
    [read_store, backtest_log, lambda settings: export_inputs(settings, Path("never"))],
    ids=["report", "backtest-log", "export-inputs"],
)
def test_a_store_of_no_service(
    read: Callable[[Settings], Any], made: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the settings name another store than the service's, or none, the error says what names
    it, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    settings = Settings(state_dir=tmp_path / "state")
    said = r"there is no store of a service at .*state/selfheal\.db"
    if made:
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "selfheal.db").touch()
        said = r"selfheal\.db has no tables: no service was started with it"
    with pytest.raises(StoreError, match=f"{said}; name the service's model with SELFHEAL_MODEL"):
        read(settings)
    assert (tmp_path / "state").exists() is made
    assert not (tmp_path / "never").exists()


def test_moments() -> None:
    """Lengths count back from now, ISO times are themselves, all else is refused by name."""
    assert moment("2h", "--since") == pytest.approx(time.time() - 7200, abs=5)
    assert moment("2026-11-26T00:00:00+00:00", "--since") == 1795651200
    with pytest.raises(SettingsError, match="--since: 'yesterday'"):
        moment("yesterday", "--since")


def test_plots(data: ReportData, tmp_path: Path) -> None:
    """Eight pictures, the last a dashboard."""
    files = write_plots(data, tmp_path)
    assert [path.name[0] for path in files] == list("12345678")
    assert files[-1].name == "8_dashboard.png"
    for path in files:
        assert path.read_bytes().startswith(PNG)
        assert path.stat().st_size > 8_000


@pytest.mark.parametrize(
    ("batches", "title"), [([], "F1, 0 rollbacks"), ([3], "F1, 1 rollback"), ([3, 3], "F1, 2 roll")]
)
def test_every_rollback_is_counted(data: ReportData, batches: list[int], title: str) -> None:
    """The title counts them all, also two at one labelled batch, in the right number."""
    events = [{"kind": "rollback", "time": 0.0, "batch": b, "detail": {}} for b in batches]
    changed = ReportData(**{**data.__dict__, "events": events})
    with drawn(changed, "f1_and_rollbacks") as figure:
        assert figure.axes[0].get_title().startswith(title)


def test_report(data: ReportData) -> None:
    """One file that loads nothing, with the plots in it and no markup from outside."""
    html = render_report(data)
    assert html.count("<svg") == 7
    assert not re.search(r"""(?:src|href)=["'](?!#)""", html)
    assert "95 % interval" in html
    assert "Snapshots" in html


def test_many_classes(data: ReportData) -> None:
    """Of more than two classes, accuracy and each class's own share are told, and no F1."""
    two = ReportData(**{**data.__dict__, "events": []})  # a feature that they name is called F1
    many = ReportData(**{**two.__dict__, "recalls": {"cat": 0.912, "dog": 0.5, "fish": 1.0}})
    html = render_report(many)
    assert "<td>cat</td><td>0.912</td>" in html
    assert [word for word in ("F1", "precision", "recall") if word in html] == []
    assert "F1" in render_report(two)


def test_report_escapes(data: ReportData) -> None:
    """What a client named itself is text, not markup."""
    evil = {"kind": "quarantine", "time": 0.0, "batch": 1, "detail": {"source": "<script>x"}}
    changed = ReportData(**{**data.__dict__, "events": [evil]})
    assert "<script>x" not in render_report(changed)
    assert "&lt;script&gt;x" in render_report(changed)


def test_nothing_yet(tmp_path: Path, data: ReportData) -> None:
    """A period without a labelled batch gives plots and a report that say so."""
    nothing: dict[str, list[object]] = {
        name: [] for name in ("batches", "signals", "events", "promotions", "snapshots")
    }
    empty = ReportData(**{**data.__dict__, **nothing})
    assert len(write_plots(empty, tmp_path)) == 8
    assert "nothing happened" in render_report(empty)
