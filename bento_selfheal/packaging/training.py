"""Trains a model before it is packaged."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bento_selfheal.model import SelfHealingModel
from bento_selfheal.rules import RuleSet
from bento_selfheal.scoring.probabilities import cross_entropy, targets
from bento_selfheal.standardize import Standardize

EPOCHS, LEAST_STEPS = 20, 60
HELD_OUT, LEAST_HELD = 5, 40
"""One row in so many is held out to find the number of epochs, if that makes enough of them."""
MOST_EPOCHS, PATIENCE = 60, 5


@dataclass(frozen=True)
class Training:
    """How `package_model` trains: Adam and binary cross-entropy over all parameters."""

    epochs: int | None = None
    """20 where it is not given, or as many as 60 steps take where rows are few."""
    lr: float = 0.001
    batch: int = 100
    rule_weight: float = 0.0
    """Weight of consistency with the rules in the loss, 0 to 1 (hybrid training)."""

    def epochs_for(self, rows: int) -> int:
        """How often to go through so many rows."""
        if self.epochs is not None:
            return self.epochs
        return max(EPOCHS, math.ceil(LEAST_STEPS / math.ceil(rows / self.batch)))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in the calling thread alone: more of them would wait for each other in small calls.

    Training the default network on 3,000 rows took three times the CPU with two threads.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def fit(
    model: SelfHealingModel,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    plan: Training,
    rules: RuleSet | None = None,
) -> None:
    """Train every parameter; each `Standardize` takes its scale from the rows."""
    for _ in _epochs(model, x, y, plan, rules, plan.epochs_for(len(x))):
        pass


@one_thread()
def best_epochs(
    model: SelfHealingModel,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    plan: Training,
    rules: RuleSet | None = None,
) -> int:
    """Epochs after which rows that were held out are predicted best.

    A table of categories has many inputs, each of which few rows speak of, and is soon known by
    heart. A fifth of the rows is held out, drawn by torch's generator; where they are too few to
    tell, the number is that of `Training.epochs_for`.

    Args:
        model: Not trained yet; it stays so.
        x: Training rows, ``(n, features)``.
        y: Indices of their classes, ``(n,)``.
        plan: How to train.
        rules: As `fit` takes them.
    """
    order = torch.randperm(len(x)).numpy()
    held, rest = np.split(order, [len(x) // HELD_OUT])
    if len(held) < LEAST_HELD:
        return plan.epochs_for(len(x))
    rows, labels = torch.from_numpy(x[held]), torch.from_numpy(y[held])
    tried, best, found = copy.deepcopy(model), math.inf, 1
    epochs = _epochs(tried, x[rest], y[rest], plan, rules, MOST_EPOCHS)
    for epoch, _ in enumerate(epochs, start=1):
        with torch.no_grad():
            answers = tried.eval()(rows)
            loss = float(cross_entropy(answers, targets(labels, answers)))
        tried.train()
        if loss < best:
            best, found = loss, epoch
        elif epoch - found >= PATIENCE:
            break
    return found


def _epochs(
    model: SelfHealingModel,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    plan: Training,
    rules: RuleSet | None,
    most: int,
) -> Iterator[None]:
    """Train, and pause after each epoch."""
    rows, labels = torch.from_numpy(x), torch.from_numpy(y)
    for part in model.modules():
        if isinstance(part, Standardize):
            part.fit(rows)
    hybrid = rules is not None and len(rules) and plan.rule_weight > 0
    verdicts = torch.from_numpy(rules.verdicts(x)) if rules is not None and hybrid else None
    model.unfreeze_all()
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.lr)
    for _ in range(most):
        order = torch.randperm(len(rows))
        for start in range(0, len(rows), plan.batch):
            picked = order[start : start + plan.batch]
            optimizer.zero_grad()
            answers = model(rows[picked])
            loss = cross_entropy(answers, targets(labels[picked], answers))
            if verdicts is not None and answers.ndim == 1:
                rule_loss = cross_entropy(answers, verdicts[picked])
                loss = (1 - plan.rule_weight) * loss + plan.rule_weight * rule_loss
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        yield
