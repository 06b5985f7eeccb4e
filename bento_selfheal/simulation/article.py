"""The article's experiment, to the digit, run on the classes that serve (article.md)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from bento_selfheal.core.records import Phase, State
from bento_selfheal.healing.challenger.challenger import Challenger
from bento_selfheal.healing.challenger.recipes import ArticleRecipe, fraud_fraction
from bento_selfheal.healing.drift.fidi import Fidi, SignalReading
from bento_selfheal.healing.evidence.health import Health
from bento_selfheal.healing.labels.labelled_rows import LabelledRows
from bento_selfheal.model import BaselineMLP, SelfHealingMLP, SelfHealingModel
from bento_selfheal.rules import Rule, RuleSet
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.simulation.article_results import (
    BatchRow,
    ExperimentResult,
    RegistryRow,
    best_healed,
)
from bento_selfheal.simulation.article_settings import ExperimentSettings


def run_experiment(settings: ExperimentSettings) -> ExperimentResult:
    """Train, drift, heal and measure as the article does; equal seeds give equal digits."""
    with _article_generators(settings.seed):
        return _Experiment(settings).run()


Rows = tuple[NDArray[np.float32], NDArray[np.float32]]


def article_data(s: ExperimentSettings, n: int, mean: float) -> Rows:
    """One data set, drawn in the article's order from NumPy's global generator (section 6)."""
    fraud = int(n * s.fraud_rate)
    parts = []
    for rows, centre, spread in ((n - fraud, mean, 1.0), (fraud, -2.5, 0.8)):
        v14 = np.random.normal(centre, spread, rows)
        others = np.random.randn(rows, s.input_dim - 1)
        parts.append(np.insert(others, s.sensitive_index, v14, axis=1))
    labels = np.concatenate([np.zeros(n - fraud), np.ones(fraud)]).astype(np.float32)
    order = np.random.permutation(n)
    return np.vstack(parts).astype(np.float32)[order], labels[order]


class _Data:
    """The three data sets, drawn in the article's order."""

    def __init__(self, s: ExperimentSettings) -> None:
        self.train = article_data(s, s.n_train, 0.0)
        self.test = article_data(s, s.n_test, 0.0)
        self.drifted = article_data(s, s.n_drift, -s.drift_strength)


class _Experiment:
    """One run; its methods stand in the order in which the article draws its numbers."""

    def __init__(self, s: ExperimentSettings) -> None:
        self.s = s
        self.data = _Data(s)
        trained = SelfHealingMLP(s.input_dim, s.hidden_dim)
        baseline = BaselineMLP(s.input_dim, s.hidden_dim)
        self._fit(trained)
        self._fit(baseline)
        self.clean = trained
        self.shadow: nn.Module = copy.deepcopy(baseline).requires_grad_(False)
        self.challenger = Challenger(copy.deepcopy(trained), s.heal_lr)
        features = [f"F{i}" for i in range(s.input_dim)]
        features[s.sensitive_index] = "V14"
        rule = Rule(feature="V14", operator="<", value=s.rule_value)
        self.rules = RuleSet([rule], features)
        v14 = self.data.train[0][:, s.sensitive_index]
        self.mu, self.sigma = float(v14.mean()), float(v14.std())
        self.fidi = Fidi(["V14"], [self.mu], [self.sigma], s.fidi_window)
        self.recipe = ArticleRecipe(s)
        self.health = Health(s.health_window)
        self.registry: list[RegistryRow] = []
        self.log: list[BatchRow] = []
        self.rollbacks = 0

    def run(self) -> ExperimentResult:
        """Stream all batches."""
        self._snapshot(Phase.CLEAN, 0, _score(self.clean, self.data.test), "as trained")
        for number in range(1, self.s.batches + 1):
            picked = np.random.choice(self.s.n_drift, self.s.batch_size, replace=True)
            self._batch(number, (self.data.drifted[0][picked], self.data.drifted[1][picked]))
        column = self.s.sensitive_index
        frozen = _score(self.shadow, self.data.drifted)
        return ExperimentResult(
            settings=self.s,
            stages={
                "clean": _score(self.clean, self.data.test),
                "drift_no_healing": frozen,
                "shadow": frozen,
                "self_healed": _score(self.challenger.model, self.data.drifted),
            },
            log=self.log,
            registry=self.registry,
            mu=self.mu,
            sigma=self.sigma,
            v14_clean=float(self.data.test[0][:, column].mean()),
            v14_drifted=float(self.data.drifted[0][:, column].mean()),
            rollbacks=self.rollbacks,
        )

    def _batch(self, number: int, batch: Rows) -> None:
        rows, labels = batch
        model = self.challenger.model
        before, shadow = _score(model, batch), _score(self.shadow, batch)
        conflicts = self.rules.conflicts(rows, _answers(model, rows), self.s.conflict_thr)
        self.fidi.update(rows[:, [self.s.sensitive_index]])
        reading = self.fidi.reading(
            int(conflicts.sum()),
            threshold=self.s.fidi_threshold,
            conflict_min=self.s.conflict_min,
        )
        fraud = fraud_fraction(labels, conflicts)
        healed = reading.drifting and fraud >= self.s.heal_fraud_floor
        if healed:
            self._heal(number, batch, conflicts, before, reading.reason)
        after = _score(model, batch)
        alarm = self.health.update(after.accuracy, after.f1, self.s.thresholds)
        if alarm is not None:
            self._roll_back()
        action = " ".join(["heal"] * healed + ["rollback"] * (alarm is not None))
        self._note(number, reading, fraud, before, after, shadow, action)

    def _heal(
        self, number: int, batch: Rows, conflicts: NDArray[np.bool_], before: Scores, reason: str
    ) -> None:
        rows, labels = batch
        self._snapshot(Phase.PRE, number, before, reason)
        if self.s.conflicts_are_fraud:
            labels = np.where(conflicts, np.float32(1), labels)
        # The article draws nothing in a heal; the recipe's generator is its own.
        self.recipe.heal(self.challenger, LabelledRows(rows, labels), self.rules, torch.Generator())
        after = _score(self.challenger.model, batch)
        self._snapshot(Phase.POST, number, after, reason)
        self.health.begin(after.accuracy, after.f1)

    def _roll_back(self) -> None:
        best = best_healed(self.registry)
        if best is not None:
            self.challenger.load(best.state, best.state)
        self.rollbacks += 1

    def _snapshot(self, phase: Phase, batch: int, scores: Scores, reason: str) -> None:
        model = self.clean if phase is Phase.CLEAN else self.challenger.model
        self.registry.append(
            RegistryRow(
                len(self.registry) + 1, phase, batch, scores.accuracy, scores.f1, reason,
                model.adapter_state(),
            )
        )  # fmt: skip

    def _note(
        self, number: int, reading: SignalReading, fraud: float, before: Scores, after: Scores,
        shadow: Scores, action: str,
    ) -> None:  # fmt: skip
        self.log.append(
            BatchRow(
                batch=number,
                state=self._state(reading, action),
                z=reading.z,
                conflicts=reading.conflicts,
                fraud_frac=fraud,
                baseline=shadow.accuracy,
                shadow=shadow.accuracy,
                accuracy=after.accuracy,
                f1=after.f1,
                precision=after.precision,
                recall=after.recall,
                lift=after.accuracy - shadow.accuracy,
                lift_before_heal=before.accuracy - shadow.accuracy,
                action=action,
            )
        )

    def _state(self, reading: SignalReading, action: str) -> State:
        """The article's log has DRIFTING from batch 3 on: a heal that conflicts alone asked
        for, before FIDI's window is filled, stands as HEALING."""
        if "rollback" in action:
            return State.ROLLED_BACK
        if reading.z > self.s.fidi_threshold:
            return State.DRIFTING
        if "heal" in action:
            return State.HEALING
        return State.DRIFTING if reading.drifting else State.HEALTHY

    def _fit(self, model: nn.Module) -> None:
        rows, labels = torch.from_numpy(self.data.train[0]), torch.from_numpy(self.data.train[1])
        optimizer = torch.optim.Adam(model.parameters(), lr=self.s.train_lr)
        for _ in range(self.s.epochs):
            order = torch.randperm(len(rows))
            for start in range(0, len(rows), self.s.train_batch):
                picked = order[start : start + self.s.train_batch]
                optimizer.zero_grad()
                F.binary_cross_entropy(model(rows[picked]), labels[picked]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()


@contextmanager
def _article_generators(seed: int) -> Iterator[None]:
    """The global generators, seeded as the article does, and put back as they were.

    One thread: sums taken in another order would change the last digits.
    """
    threads, legacy = torch.get_num_threads(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(legacy)
            torch.set_num_threads(threads)


def _answers(model: nn.Module | SelfHealingModel, rows: NDArray[np.float32]) -> Any:
    with torch.no_grad():
        return model(torch.from_numpy(rows)).numpy()


def _score(model: nn.Module | SelfHealingModel, data: Rows) -> Scores:
    return Scores.of(_answers(model, data[0]), data[1])
