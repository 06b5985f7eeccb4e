"""A user's file through the pipeline offline."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bento_selfheal.cli.output import print_backtest
from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import Event
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.comparison import drifts_in
from bento_selfheal.simulation.demo import demo_stream

COMMAND = [sys.executable, "-c", "from bento_selfheal.cli.main import main; main()", "backtest"]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stream whose class turns round after a third."""
    generator = np.random.default_rng(3)
    rows = generator.normal(size=(3000, 2))
    sign = np.where(np.arange(3000) < 1000, 1, -1)
    label = np.where(rows[:, 0] * sign > 0, "yes", "no")
    path = tmp_path_factory.mktemp("stream") / "stream.csv"
    lines = [f"{a:.6f},{b:.6f},{y}" for (a, b), y in zip(rows.tolist(), label, strict=True)]
    path.write_text("\n".join(["a,b,answer", *lines]) + "\n")
    return path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=120)


def result_of(file: Path, *more: str) -> dict[str, Any]:
    done = run(str(file), "--label", "answer", "--train-fraction", "0.2", "--json", *more)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.slow
def test_one_json_object(file: Path) -> None:
    """It prints the figures of frozen, champion and challenger, the lift with its interval and
    the counts; equal seeds give equal figures, and healing beats the frozen model here."""
    one, two = result_of(file), result_of(file)
    for result in (one, two):
        assert result.pop("seconds") > 0
    assert one == two
    models = {"frozen", "champion", "challenger"}
    assert set(one) == {*models, "majority", "lift", "promotions", "rollbacks", "drifts"}
    for name in models:
        assert set(one[name]) == {
            "accuracy", "recall", "precision", "mean_recall", "cost", "auc", "average_precision",
            "log_loss", "alarms", "caught", "to_catch", "recall_at_alarms", "precision_at_alarms",
        }  # fmt: skip
    assert 0.5 <= one["majority"] < 0.55
    assert one["champion"]["alarms"] == one["frozen"]["alarms"]
    assert one["champion"]["caught"] > one["frozen"]["caught"]
    assert one["frozen"]["accuracy"] < 0.3
    assert one["champion"]["accuracy"] > 0.5
    difference = one["champion"]["accuracy"] - one["frozen"]["accuracy"]
    assert one["lift"]["accuracy"] == pytest.approx(difference)
    assert one["lift"]["low"] > 0
    assert one["promotions"] >= 1


@pytest.mark.slow
def test_later_labels_heal_later(file: Path) -> None:
    """With labels a thousand rows late less is won than with labels a hundred rows late."""
    early, late = result_of(file, "--delay", "100"), result_of(file, "--delay", "1000")
    assert late["champion"]["accuracy"] < early["champion"]["accuracy"]


def test_bad_column_is_named(file: Path) -> None:
    """A label that is no column ends with exit code 2 and its name."""
    done = run(str(file), "--label", "nothing")
    assert done.returncode == 2
    assert "nothing" in done.stderr


def test_served_is_never_healed_on_its_own_label(package: Package) -> None:
    """Until the first labels are due, what is served is the frozen model, row for row."""
    stream = demo_stream(6, 0, 2.2, 1)
    run = Backtest(package, Settings())
    reports = list(run.run(stream))
    assert [r.champion for r in reports[:2]] == [r.shadow for r in reports[:2]]


def test_a_share_first(package: Package) -> None:
    """With the setting `canary` a backtest answers some batches with the canary and others with
    the champion, then all with what the canary was."""
    run = Backtest(package, Settings(canary=("50",), replay_rate=0.01))  # type: ignore[arg-type]
    versions = [report.version for report in run.run(demo_stream(24, 2, 2.2, 1))]
    first = next(version for version in versions if version != 1)
    begun, all_its = versions.index(first), max(i for i, v in enumerate(versions) if v == 1)
    assert {1, first} == set(versions[begun : all_its + 1]), "both answer"
    assert all_its > begun
    assert min(versions[all_its + 1 :]) >= first, "then the packaged model answers nothing"


@pytest.mark.slow
def test_side_by_side(file: Path) -> None:
    """Other settings run beside, and it is said by how much they would have been better."""
    result = result_of(file, "--try", "mode=observe", "--try", "heal_lr=0.01,heal_rows=50")
    observed, faster = result["tries"]
    assert observed["settings"] == {"mode": "observe"}
    assert observed["champion"] == result["frozen"]
    assert observed["better"]["accuracy"] == pytest.approx(-result["lift"]["accuracy"])
    assert observed["better"]["high"] < 0
    assert faster["settings"] == {"heal_lr": 0.01, "heal_rows": 50}


@pytest.mark.slow
def test_rules_are_tried(file: Path) -> None:
    """Without a package of them, it is said how often rules are right: the one that holds in
    training no longer does after the turn, and the other way round."""
    result = result_of(file, "--rule", "a > 0 -> yes", "--rule", "a > 0 -> no")
    before, after = result["rules"]
    assert before["precision"] < 0.3
    assert after["precision"] > 0.7
    assert before["coverage"] == after["coverage"] == pytest.approx(0.5, abs=0.1)
    console = Console(file=io.StringIO(), width=200)
    print_backtest(result, console)
    assert isinstance(console.file, io.StringIO)
    said = f"rows, and is right on {after['precision']:.3f} of these"
    assert said in console.file.getvalue()


def test_wrong_rule(file: Path) -> None:
    """A rule on what is no column is refused with its name."""
    done = run(str(file), "--label", "answer", "--rule", "height > 0 -> yes")
    assert done.returncode == 2
    assert "height" in done.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("heal_lr=fast", "heal_lr"),
        pytest.param("speed=3", "speed", marks=pytest.mark.slow),
        pytest.param("mode", "NAME=VALUE", marks=pytest.mark.slow),
    ],
)
def test_wrong_try(file: Path, given: str, said: str) -> None:
    """A try that is no setting is refused with its name."""
    done = run(str(file), "--label", "answer", "--try", given)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_class_that_nobody_trained_on(file: Path, tmp_path: Path) -> None:
    """A stream in which a new class appears runs through; the figures leave its rows out and say
    how many there are, as text too."""
    lines = file.read_text().splitlines()
    lines[1500::10] = [line.rpartition(",")[0] + ",late" for line in lines[1500::10]]
    path = tmp_path / "new.csv"
    path.write_text("\n".join(lines) + "\n")
    done = run(str(path), "--label", "answer", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    # The labels of the newest 100 rows have not come.
    assert result["new_classes"] == {"late": 141}
    assert 0.5 < result["champion"]["accuracy"] <= 1
    out = io.StringIO()
    print_backtest(result, Console(file=out, width=200))
    assert "141 labels of classes that were not trained on: late 141" in out.getvalue()


def test_labels_that_prove_nothing(file: Path) -> None:
    """Where labels come of one class only, or for rows that are looked at alone, the result says
    that this is why nothing was learned and promoted."""
    shown = run(str(file), "--label", "answer", "--json", "--only", "yes", "--review", "flagged")
    assert shown.returncode == 0, shown.stderr
    out = io.StringIO()
    print_backtest(json.loads(shown.stdout), Console(file=out, width=500))
    assert "one-sided labels, of which nothing is learned: only class yes is" in out.getvalue()
    assert "review: figures speak only for rows that are looked at" in out.getvalue()


def test_every_drift_is_named_with_what_was_told_last() -> None:
    """The result has each drift once, with what labels said of it in the end."""
    first, last = ({"kind": kind, "sentence": "no input moved"} for kind in ("?", "concept drift"))
    events = [
        Event("drift_explained", {"kind": "of before"}, 0.0, 1),
        Event("drifting", {"reason": "z", "causes": first}, 1.0, 2),
        Event("heal", {}, 2.0, 2),
        Event("drift_explained", last, 3.0, 5),
        Event("drifting", {"reason": "accuracy", "causes": first}, 4.0, 9),
    ]
    assert drifts_in(events) == [
        {"batch": 2, "reason": "z", "causes": last},
        {"batch": 9, "reason": "accuracy", "causes": first},
    ]
