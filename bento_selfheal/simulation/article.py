"""The article's experiment, to the digit, on the very classes that serve (article.md)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError
from torch import Tensor, nn

from bento_selfheal.config.parameters import HealParameters
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.config.validation import Count, Positive, Share, describe
from bento_selfheal.core.records import Phase, State
from bento_selfheal.errors import SettingsError
from bento_selfheal.healing.challenger.challenger import Challenger
from bento_selfheal.healing.challenger.recipes import ArticleRecipe, fraud_fraction
from bento_selfheal.healing.drift.fidi import Fidi, SignalReading
from bento_selfheal.healing.evidence.health import Health
from bento_selfheal.healing.labels.labelled_rows import LabelledRows
from bento_selfheal.model import BaselineMLP, SelfHealingMLP, SelfHealingModel
from bento_selfheal.rules import Rule, RuleSet
from bento_selfheal.scoring.scores import Scores


class ExperimentSettings(HealParameters):
    """Every parameter of the article, under its own name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    recipe: Literal["article"] = "article"
    """The experiment is the article's, and so is its heal."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Seed of torch's and NumPy's global generators."""
    drift_strength: float = 2.2
    """How far V14 of normal rows moves down."""
    n_train: Count = 5000
    """Rows to train on."""
    n_test: Count = 1000
    """Clean rows to test on."""
    n_drift: Count = 1000
    """Drifted rows, from which the batches are drawn."""
    fraud_rate: Share = 0.15
    """Share of fraud in each data set."""
    input_dim: Annotated[int, Field(ge=1)] = 10
    """Number of features."""
    hidden_dim: Count = 64
    """Width of the hidden layers and of the adapter."""
    sensitive_index: Annotated[int, Field(ge=0)] = 7
    """Column of V14."""
    rule_value: float = -1.5
    """V14 below it means fraud, says the rule."""
    epochs: Count = 20
    """Epochs of the first training."""
    train_lr: Positive = 0.001
    """Adam's learning rate in the first training."""
    train_batch: Count = 100
    """Rows of a minibatch in the first training."""
    batches: Count = 25
    """Drifted batches that are streamed."""
    rollback_f1_drop: Share = 0.08
    """F1 this far below the first heal's, as a rolling mean, rolls back."""
    rollback_acc_drop: Share = 0.10
    """Accuracy this far below the first heal's, as a rolling mean, rolls back."""
    conflicts_are_fraud: bool = False
    """Ablation v1: conflicting rows are labelled fraud outright."""
    heal_fraud_floor: Share = 0.0
    """Ablation v6: heal only when this share of the conflicting rows is fraud."""

    @property
    def thresholds(self) -> Thresholds:
        return Thresholds(
            rollback_f1_drop=self.rollback_f1_drop, rollback_acc_drop=self.rollback_acc_drop
        )


NO_CLASS_WEIGHT = {"pos_weight_base": 1.0, "pos_weight_slope": 0.0, "pos_weight_max": 1.0}
ABLATIONS: dict[str, dict[str, Any]] = {
    "v1": {"conflicts_are_fraud": True},
    "v2": {"fidi_threshold": 2.0},
    "v3": NO_CLASS_WEIGHT,
    "v4": {"pos_weight_floor": 0.0, "pos_weight_base": 6.0, "pos_weight_slope": 0.0,
           "pos_weight_max": 6.0},
    "v5": {"pos_weight_floor": 0.0, "pos_weight_base": 2.0, "pos_weight_slope": 0.0},
    "v6": {"heal_fraud_floor": 0.10},
    "v7": {**NO_CLASS_WEIGHT, "entropy_weight": 0.0},
}  # fmt: skip
"""The article's iterations (article.md, section 9) as changes of its final settings."""


@dataclass(frozen=True)
class BatchRow:
    """One batch of the article's log."""

    batch: int
    state: State
    z: float
    conflicts: int
    fraud_frac: float
    baseline: float
    shadow: float
    accuracy: float
    f1: float
    precision: float
    recall: float
    lift: float
    lift_before_heal: float
    action: str


@dataclass(frozen=True)
class RegistryRow:
    """One snapshot of the article's registry."""

    version: int
    phase: Phase
    batch: int
    accuracy: float
    f1: float
    reason: str
    state: dict[str, Tensor] = field(repr=False)


@dataclass(frozen=True)
class ExperimentResult:
    """All that the article publishes."""

    settings: ExperimentSettings
    stages: dict[str, Scores]
    log: list[BatchRow]
    registry: list[RegistryRow]
    mu: float
    sigma: float
    v14_clean: float
    v14_drifted: float
    rollbacks: int

    @property
    def heals(self) -> int:
        return sum(row.phase is Phase.POST for row in self.registry)

    @property
    def best_snapshot(self) -> RegistryRow | None:
        """The post-heal snapshot with the highest F1."""
        healed = [row for row in self.registry if row.phase is Phase.POST]
        return max(healed, key=lambda row: row.f1, default=None)

    def as_dict(self) -> dict[str, Any]:
        """One JSON object: stages, lift, heals, rollbacks, best snapshot, settings, log."""
        best = self.best_snapshot
        return {
            "stages": {name: scores.as_dict() for name, scores in self.stages.items()},
            "lift": _spread([row.lift for row in self.log]),
            "lift_before_heal": _spread([row.lift_before_heal for row in self.log]),
            "heals": self.heals,
            "rollbacks": self.rollbacks,
            "best_snapshot": None if best is None else _registry_facts(best),
            "mu": self.mu,
            "sigma": self.sigma,
            "v14_mean": {"clean": self.v14_clean, "drifted": self.v14_drifted},
            "settings": self.settings.model_dump(),
            "log": [row.__dict__ for row in self.log],
            "registry": [_registry_facts(row) for row in self.registry],
        }


def experiment_settings(
    seed: int, ablation: str | None = None, changes: dict[str, str] | None = None
) -> ExperimentSettings:
    """Settings from a seed, an ablation and ``NAME=VALUE`` changes, the last winning.

    Raises:
        SettingsError: A name or a value does not fit; each is named.
    """
    if ablation is not None and ablation not in ABLATIONS:
        raise SettingsError(f"ablation: {ablation!r} is none of {', '.join(ABLATIONS)}")
    chosen = {"seed": seed, **ABLATIONS.get(ablation or "", {}), **(changes or {})}
    try:
        settings = ExperimentSettings.model_validate(chosen)
    except ValidationError as error:
        raise SettingsError(describe(error)) from error
    if settings.sensitive_index >= settings.input_dim:
        raise SettingsError(
            f"sensitive_index: {settings.sensitive_index} is beyond the "
            f"{settings.input_dim} features"
        )
    return settings


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


class _Experiment:
    """One run; its methods stand in the order in which the article draws its numbers."""

    def __init__(self, s: ExperimentSettings) -> None:
        self.s = s
        self.train = article_data(s, s.n_train, 0.0)
        self.test = article_data(s, s.n_test, 0.0)
        self.drifted = article_data(s, s.n_drift, -s.drift_strength)
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
        v14 = self.train[0][:, s.sensitive_index]
        self.mu, self.sigma = float(v14.mean()), float(v14.std())
        self.fidi = Fidi(["V14"], [self.mu], [self.sigma], s.fidi_window)
        self.recipe = ArticleRecipe(s)
        self.health = Health(s.health_window)
        self.registry: list[RegistryRow] = []
        self.log: list[BatchRow] = []
        self.rollbacks = 0

    def run(self) -> ExperimentResult:
        self._snapshot(Phase.CLEAN, 0, _score(self.clean, self.test), "as trained")
        for number in range(1, self.s.batches + 1):
            picked = np.random.choice(self.s.n_drift, self.s.batch_size, replace=True)
            self._batch(number, (self.drifted[0][picked], self.drifted[1][picked]))
        column = self.s.sensitive_index
        frozen = _score(self.shadow, self.drifted)
        return ExperimentResult(
            settings=self.s,
            stages={
                "clean": _score(self.clean, self.test),
                "drift_no_healing": frozen,
                "shadow": frozen,
                "self_healed": _score(self.challenger.model, self.drifted),
            },
            log=self.log,
            registry=self.registry,
            mu=self.mu,
            sigma=self.sigma,
            v14_clean=float(self.test[0][:, column].mean()),
            v14_drifted=float(self.drifted[0][:, column].mean()),
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
        healed = [row for row in self.registry if row.phase is Phase.POST]
        best = max(healed, key=lambda row: row.f1).state
        self.challenger.load(best, best)
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
        rows, labels = torch.from_numpy(self.train[0]), torch.from_numpy(self.train[1])
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


def _spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "mean": float(np.mean(values)), "max": max(values)}


def _registry_facts(row: RegistryRow) -> dict[str, Any]:
    return {k: v for k, v in row.__dict__.items() if k != "state"}
