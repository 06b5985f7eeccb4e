"""The article's experiment: its table to the digit, its rollbacks, its command."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from bento_selfheal.cli.main import main
from bento_selfheal.core.records import Phase, State
from bento_selfheal.errors import SettingsError
from bento_selfheal.healing.challenger.schedule import Schedule
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.simulation import article as experiment
from bento_selfheal.simulation.article import run_experiment
from bento_selfheal.simulation.article_results import ExperimentResult
from bento_selfheal.simulation.article_settings import (
    ABLATIONS,
    ExperimentSettings,
    experiment_settings,
)

COMMAND = [sys.executable, "-c", "from bento_selfheal.cli.main import main; main()"]
SMALL = {"n_train": "200", "n_test": "50", "n_drift": "100", "epochs": "1", "batches": "4"}


@pytest.fixture(scope="module")
def published() -> ExperimentResult:
    return run_experiment(ExperimentSettings())


@pytest.fixture(scope="module")
def harder() -> ExperimentResult:
    return run_experiment(ExperimentSettings(drift_strength=3.5, rollback_f1_drop=0.03))


def small_args() -> list[str]:
    return [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    """Exit code of the command, called in this process."""
    monkeypatch.setattr(sys, "argv", ["bento-selfheal", "reproduce", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("stage", "accuracy", "precision", "recall", "f1", "counts"),
    [
        ("clean", 0.929, 0.784, 0.727, 0.754, (109, 820, 30, 41)),
        ("drift_no_healing", 0.446, 0.194, 0.853, 0.316, (128, 318, 532, 22)),
        ("shadow", 0.446, 0.194, 0.853, 0.316, (128, 318, 532, 22)),
        ("self_healed", 0.724, 0.224, 0.340, 0.270, (51, 673, 177, 99)),
    ],
)
def test_stage_to_the_digit(
    published: ExperimentResult,
    stage: str,
    accuracy: float,
    precision: float,
    recall: float,
    f1: float,
    counts: tuple[int, int, int, int],
) -> None:
    """Each row of the published table comes out to the digit at seed 42."""
    s = published.stages[stage]
    assert (s.tp, s.tn, s.fp, s.fn) == counts
    assert [round(v, 3) for v in (s.accuracy, s.precision, s.recall, s.f1)] == [
        accuracy, precision, recall, f1,
    ]  # fmt: skip


def test_calibration_to_the_digit(published: ExperimentResult) -> None:
    """mu, sigma and the V14 means are the published ones."""
    measured = (published.mu, published.sigma, published.v14_clean, published.v14_drifted)
    assert [round(v, 3) for v in measured] == [-0.363, 1.323, -0.377, -2.261]


def test_lift_to_the_digit(published: ExperimentResult) -> None:
    """Lift spans +0.050 to +0.360 with mean +0.223, and is +0.218 before the heal."""
    facts = published.as_dict()
    assert {k: round(v, 3) for k, v in facts["lift"].items()} == {
        "min": 0.050, "mean": 0.223, "max": 0.360,
    }  # fmt: skip
    assert round(facts["lift_before_heal"]["mean"], 3) == 0.218


def test_heals_and_rollbacks(published: ExperimentResult) -> None:
    """At the published settings every one of 25 batches heals and none rolls back."""
    assert (published.heals, published.rollbacks, len(published.log)) == (25, 0, 25)


def test_best_snapshot(published: ExperimentResult) -> None:
    """The best post-heal snapshot is version 21 of batch 10."""
    best = published.best_snapshot
    assert best is not None
    assert (best.version, best.batch, best.phase) == (21, 10, Phase.POST)
    assert (round(best.accuracy, 3), round(best.f1, 3)) == (0.710, 0.408)


def test_drifting_from_batch_three(published: ExperimentResult) -> None:
    """The state is DRIFTING from batch 3 on and not before; z is 0 before."""
    states = [row.state for row in published.log]
    assert State.DRIFTING not in states[:2]
    assert set(states[2:]) == {State.DRIFTING}
    assert [row.z for row in published.log[:2]] == [0.0, 0.0]
    assert min(row.z for row in published.log[2:]) > 1.0


def test_registry_order(published: ExperimentResult) -> None:
    """The clean weights are version 1; each heal adds a pre and a post snapshot of its batch."""
    rows = [(row.version, row.phase, row.batch) for row in published.registry]
    expected = [(1, Phase.CLEAN, 0)]
    for batch in range(1, 26):
        expected += [(2 * batch, Phase.PRE, batch), (2 * batch + 1, Phase.POST, batch)]
    assert rows == expected


def test_log_shows_class_weights_cause(published: ExperimentResult) -> None:
    """The log gives the share of fraud among conflicts, on which the class weight rests."""
    shares = [row.fraud_frac for row in published.log]
    assert all(0 <= share <= 1 for share in shares)
    assert any(0 < share < 1 for share in shares)


def test_rollbacks_of_the_harder_drift(harder: ExperimentResult) -> None:
    """drift_strength 3.5 with rollback_f1_drop 0.03 rolls back 13 times at seed 42."""
    assert harder.rollbacks == 13
    assert sum(row.state is State.ROLLED_BACK for row in harder.log) == 13


def test_rollback_restores_best_post_heal(harder: ExperimentResult) -> None:
    """The batch after a rollback starts from the best post-heal weights so far, never clean."""
    rolled = next(row.batch for row in harder.log if row.state is State.ROLLED_BACK)
    known = [r for r in harder.registry if r.phase is Phase.POST and r.batch <= rolled]
    best = max(known, key=lambda row: row.f1)
    start = next(r for r in harder.registry if r.phase is Phase.PRE and r.batch > rolled)
    clean = harder.registry[0]
    assert all(torch.equal(start.state[name], value) for name, value in best.state.items())
    assert any(not torch.equal(start.state[name], value) for name, value in clean.state.items())


def test_same_seed_same_digits(published: ExperimentResult) -> None:
    """A second run gives every figure again, and another seed gives others."""
    assert run_experiment(ExperimentSettings()).as_dict() == published.as_dict()
    other = run_experiment(experiment_settings(1, changes=SMALL)).as_dict()
    assert other["mu"] != run_experiment(experiment_settings(2, changes=SMALL)).as_dict()["mu"]


def test_global_generators_left_alone() -> None:
    """Neither the state of the global generators nor the thread count is changed by a run."""
    torch.manual_seed(5)
    np.random.seed(6)
    threads = torch.get_num_threads()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=False)
    try:
        torch.set_num_threads(3)
        run_experiment(experiment_settings(1, changes=SMALL))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), torch_state)
    after = np.random.get_state(legacy=False)
    assert np.array_equal(after["state"]["key"], numpy_state["state"]["key"])
    assert after["state"]["pos"] == numpy_state["state"]["pos"]


def test_runs_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run uses one thread whatever the caller has, so that the digits are the same anywhere."""
    seen: list[int] = []

    def counting(model: nn.Module, data: experiment.Rows) -> Scores:
        seen.append(torch.get_num_threads())
        return score(model, data)

    score = experiment._score
    monkeypatch.setattr(experiment, "_score", counting)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        run_experiment(experiment_settings(1, changes=SMALL))
    finally:
        torch.set_num_threads(threads)
    assert set(seen) == {1}


def test_ablations_change_the_final_settings() -> None:
    """Each of v1 to v7 is a change of the final settings, and later changes win over it."""
    final = ExperimentSettings().model_dump()
    assert list(ABLATIONS) == [f"v{i}" for i in range(1, 8)]
    for name in ABLATIONS:
        assert experiment_settings(42, name).model_dump() != final
    changed = experiment_settings(42, "v2", {"fidi_threshold": "1.5"})
    assert changed.fidi_threshold == 1.5


@pytest.mark.parametrize(
    ("name", "weights"), [("v3", (1, 1)), ("v4", (6, 6)), ("v5", (2, 2)), ("v7", (1, 1))]
)
def test_ablation_class_weights(name: str, weights: tuple[float, float]) -> None:
    """v3 and v7 have no class weight, v4 a fixed 6, v5 a fixed 2, whatever the conflicts are."""
    settings = experiment_settings(42, name)
    class_weight = Schedule(settings).class_weight
    assert (class_weight(0.0), class_weight(0.5)) == weights


@pytest.mark.slow
def test_conflicts_labelled_fraud_raise_recall(published: ExperimentResult) -> None:
    """v1, which labels every conflict fraud, flags far more rows than the final heal."""
    wrong = run_experiment(experiment_settings(42, "v1")).stages["self_healed"]
    right = published.stages["self_healed"]
    assert wrong.fp > right.fp
    assert wrong.accuracy < right.accuracy


@pytest.mark.slow
def test_gated_heal_is_rare(published: ExperimentResult) -> None:
    """v6 heals only on batches whose conflicts are at least 10 % fraud."""
    gated = run_experiment(experiment_settings(42, "v6"))
    assert 0 < gated.heals < published.heals
    for row in gated.log:
        assert row.action == "" or row.fraud_frac >= 0.10


@pytest.mark.slow
def test_high_threshold_silences_fidi() -> None:
    """v2's fidi_threshold of 2.0 is never reached: only conflicts ask for heals."""
    log = run_experiment(experiment_settings(42, "v2")).log
    assert max(row.z for row in log) < 2.0
    assert all(row.conflicts >= 5 for row in log if row.action)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", "abc"),
        ("no_such_name", "1"),
        ("recipe", "replay"),
        ("drift_strength", "nan"),
        ("train_lr", "inf"),
        ("rollback_f1_drop", "1.5"),
        ("seed", "-1"),
        ("batches", "0"),
    ],
)
def test_wrong_set_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
) -> None:
    """A wrong --set ends with exit code 2 and names the field and the value."""
    assert call(monkeypatch, "--set", f"{name}={value}") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert name in err
    assert value in err


@pytest.mark.parametrize("args", [("--set", "epochs"), ("--ablation", "v9")])
def test_wrong_call_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: tuple[str, str]
) -> None:
    """A --set without a value and an unknown ablation end with exit code 2, by name."""
    assert call(monkeypatch, *args) == 2
    assert args[1] in capsys.readouterr().err


def test_sensitive_index_beyond_features() -> None:
    """A sensitive column that the data do not have is refused by name."""
    with pytest.raises(SettingsError, match="sensitive_index: 7"):
        experiment_settings(42, changes={"input_dim": "3"})


def test_json_is_one_object() -> None:
    """With --json stdout is exactly one JSON object, with the published keys."""
    done = subprocess.run(
        [*COMMAND, "reproduce", "--json", "--seed", "3", *small_args()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert {"stages", "lift", "heals", "rollbacks", "best_snapshot"} <= set(found)
    assert set(found["stages"]) == {"clean", "drift_no_healing", "shadow", "self_healed"}
    assert set(found["lift"]) == {"min", "mean", "max"}
    assert found["settings"]["seed"] == 3
    assert len(found["log"]) == 4


@pytest.mark.slow
def test_plain_output_shows_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --json the command prints the table, the log, the registry and the figures."""
    monkeypatch.setenv("COLUMNS", "140")
    assert call(monkeypatch) == 0
    out = capsys.readouterr().out
    for piece in ("92.9%", "44.6%", "72.4%", "DRIFTING", "post-heal", "+0.223", "version 21"):
        assert piece in out
